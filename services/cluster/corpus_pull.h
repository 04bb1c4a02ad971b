// One corpus, pulled from the worker that has it into this one's engine: rounds over
// Worker.ExportCorpus (worker.proto) until little is left, then the last one.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "engine/engine.h"
#include "lectern/worker/v1/worker.grpc.pb.h"
#include "services/rpc/call.h"

namespace lectern::services {

class CorpusPull {
 public:
  struct Progress {
    int64_t bytes = 0;    // of records verified and written since the pull began
    int64_t records = 0;  // likewise
    int64_t left = 0;     // bytes that the round at hand is going to bring, an estimate
  };
  // `told` is called now and then; what it returns, unless it is OK, ends the pull.
  CorpusPull(engine::Engine& engine, std::shared_ptr<grpc::Channel> source,
             std::function<absl::Status(const Progress&)> told)
      : engine_(engine), stub_(worker::v1::Worker::NewStub(source)), told_(std::move(told)) {}

  // Everything that the corpus is at its owner, here, published, while its owner refuses changes.
  struct Pulled {
    uint64_t import = 0;
    int64_t hold_revision = 0;
  };
  // `may_publish`: asked with the hold's revision before anything becomes visible here. Errors: the
  // owner's, the engine's, UNAVAILABLE WORKER_UNREACHABLE.
  absl::StatusOr<Pulled> Run(const Caller& caller,
                             const std::function<absl::Status(int64_t)>& may_publish);
  // From another thread: ends Run soon.
  void Cancel();

 private:
  struct Round {
    engine::CorpusOrigin origin;
    int64_t bytes = 0;
    int64_t hold_revision = 0;
    // The owner sent everything, for want of knowing what is here from before.
    bool again = false;
  };
  absl::StatusOr<Round> PullRound(const Caller& caller, bool last);
  absl::Status Take(const worker::v1::ExportCorpusResponse& message);
  absl::Status Open(const Caller& caller, const worker::v1::ExportCorpusResponse::Header& header,
                    Round& round);

  engine::Engine& engine_;
  const std::unique_ptr<worker::v1::Worker::Stub> stub_;
  const std::function<absl::Status(const Progress&)> told_;
  Progress progress_;
  engine::CorpusOrigin origin_;
  std::unique_ptr<engine::CorpusImport> import_;

  std::mutex mutex_;
  grpc::ClientContext* context_ = nullptr;  // of the round at hand
  bool cancelled_ = false;
};

}  // namespace lectern::services
