#include "services/worker/worker_server.h"

#include <utility>

#include "engine/error/status_macros.h"
#include "services/process/listen.h"

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kStopGrace{500};

std::vector<std::string> WorkerServices() { return {worker::v1::Worker::service_full_name()}; }

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const std::string& listen, const std::shared_ptr<grpc::ServerCredentials>& credentials,
    engine::Engine& engine, CallMetrics* metrics, const WorkerService::Options& options) {
  std::unique_ptr<WorkerServer> worker(new WorkerServer(engine, metrics, options));
  grpc::ServerBuilder builder;
  builder.RegisterService(&worker->service_);
  LECTERN_ASSIGN_OR_RETURN(RunningServer running,
                           StartServer(builder, listen, credentials, WorkerServices()));
  worker->server_ = std::move(running.server);
  worker->address_ = std::move(running.address);
  worker->SetAnswering(options.ownership == nullptr);
  return worker;
}

WorkerServer::~WorkerServer() {
  if (server_ != nullptr) Stop();
}

std::shared_ptr<grpc::Channel> WorkerServer::InProcessChannel() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxRelayBytes);
  arguments.SetMaxSendMessageSize(-1);
  return server_->InProcessChannel(arguments);
}

void WorkerServer::SetAnswering(bool answering) {
  const std::lock_guard lock(serving_mutex_);
  if (refusing_ && answering) return;
  serving_ = answering;
  SetServing(*server_, WorkerServices(), answering);
}

void WorkerServer::EndWaits() { service_.EndWaits(); }

void WorkerServer::Refuse() {
  {
    const std::lock_guard lock(serving_mutex_);
    refusing_ = true;
    serving_ = false;
    SetServing(*server_, WorkerServices(), false);
  }
  service_.admission().Close();
  service_.EndWaits();
}

bool WorkerServer::WaitIdle(std::chrono::steady_clock::time_point until) {
  return service_.admission().WaitIdle(until);
}

void WorkerServer::Stop() { StopServer(*server_, kStopGrace); }

}  // namespace lectern::services
