// One corpus, pulled from the worker that has it into this one's engine, by rounds over
// Worker.ExportCorpus (worker.proto): of a move until little is left, and then the last one; of a
// replica as often as something has changed.
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

  // One round of a replica. All documents have come and are kept (engine/transfer.h); of the cache
  // up to about `cache_bytes`, which is kept when nothing is left of it.
  struct Replicated {
    engine::CorpusOrigin origin;
    int64_t left = 0;   // bytes of the cache that are still to come, an estimate
    bool more = false;  // there are such
    bool busy = false;  // an operation of the corpus runs
  };
  absl::StatusOr<Replicated> Replicate(const Caller& caller, int64_t cache_bytes);

  // From another thread: ends what runs soon.
  void Cancel();

 private:
  struct Round {
    engine::CorpusOrigin origin;
    int64_t bytes = 0;
    int64_t hold_revision = 0;
    bool busy = false;
    bool more = false;
    // The owner sent everything, for want of knowing what is here from before.
    bool again = false;
  };
  // A round as `request` has it, but for what is here already.
  absl::StatusOr<Round> PullRound(const Caller& caller, worker::v1::ExportCorpusRequest request);
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
