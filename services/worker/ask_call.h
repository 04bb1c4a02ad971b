// Ask in progress: the engine's callbacks queue messages, and one write at a time takes them to the
// caller. The queue holds at most one answer; texts that wait are joined.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/engine.h"
#include "lectern/v1/answers.pb.h"
#include "services/cluster/ownership.h"
#include "services/telemetry/call_record.h"
#include "services/worker/ticket_slot.h"

namespace lectern::services {

class WorkerService;

class AskCall final : public grpc::ServerWriteReactor<v1::AskResponse>,
                      public std::enable_shared_from_this<AskCall> {
 public:
  static AskCall* Start(WorkerService& worker, grpc::CallbackServerContext& context,
                        const v1::AskRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override { ticket_.Cancel(); }
  void OnDone() override;

 private:
  AskCall(WorkerService& worker, grpc::CallbackServerContext& context,
          const v1::AskRequest& request);

  absl::Status Submit();
  engine::AnswerSink MakeSink();
  void PushText(std::string_view text);
  void PushAnswer(const engine::Answer& answer);
  void Push(v1::AskResponse message);
  void End(const absl::Status& status);
  // Starts the next write, or the end, unless one is under way. Nothing of an answer leaves a
  // worker that may not give it any more.
  void Advance();

  WorkerService& worker_;
  grpc::CallbackServerContext& context_;
  const v1::AskRequest& request_;
  engine::CorpusName corpus_;
  CorpusGate::Pass pass_;
  CallRecord record_;
  TicketSlot ticket_;

  std::mutex mutex_;
  std::deque<v1::AskResponse> queue_;  // the front is being written while writing_
  bool writing_ = false;
  bool broken_ = false;  // a write failed: nobody reads any more
  std::optional<grpc::Status> final_;
  bool finished_ = false;
  bool refused_ = false;  // by the worker's ownership

  std::shared_ptr<AskCall> self_;  // until OnDone
};

}  // namespace lectern::services
