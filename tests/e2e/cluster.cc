#include "tests/e2e/cluster.h"

#include <gtest/gtest.h>

#include <utility>

#include "lectern/worker/v1/worker.grpc.pb.h"

namespace lectern::testing {
namespace {

using std::chrono::milliseconds;

// What clients of several gateways do: one after the other, and again where nothing was begun.
constexpr char kClientConfig[] = R"({"loadBalancingConfig":[{"round_robin":{}}],
  "healthCheckConfig":{"serviceName":""},
  "methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.05s",
    "maxBackoff":"0.5s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]})";

}  // namespace

Client::Client(const std::string& target, bool of_several) {
  grpc::ChannelArguments arguments;
  if (of_several) arguments.SetServiceConfigJSON(kClientConfig);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  channel = grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
  corpora = v1::Corpora::NewStub(channel);
  documents = v1::Documents::NewStub(channel);
  operations = v1::Operations::NewStub(channel);
  answers = v1::Answers::NewStub(channel);
  models = v1::Models::NewStub(channel);
  tenants = v1::Tenants::NewStub(channel);
}

grpc::Status Client::Create(const std::string& id) {
  v1::CreateCorpusRequest request;
  request.set_parent(kTenant);
  request.set_corpus_id(id);
  v1::Corpus corpus;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  return corpora->CreateCorpus(&context, request, &corpus);
}

grpc::Status Client::Get(const std::string& id, v1::Corpus* corpus, milliseconds limit) {
  v1::GetCorpusRequest request;
  request.set_name(CorpusPath(id));
  v1::Corpus ignored;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + limit);
  return corpora->GetCorpus(&context, request, corpus == nullptr ? &ignored : corpus);
}

grpc::Status Client::Delete(const std::string& id, milliseconds limit) {
  v1::DeleteCorpusRequest request;
  request.set_name(CorpusPath(id));
  google::protobuf::Empty empty;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + limit);
  return corpora->DeleteCorpus(&context, request, &empty);
}

grpc::Status Client::Upload(const std::string& corpus, const std::string& id,
                            const std::string& bytes) {
  v1::Document document;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const auto writer = documents->UploadDocument(&context, &document);
  v1::UploadDocumentRequest message;
  message.mutable_header()->set_parent(CorpusPath(corpus));
  message.mutable_header()->set_document_id(id);
  writer->Write(message);
  message.set_data(bytes);
  writer->Write(message);
  writer->WritesDone();
  return writer->Finish();
}

grpc::Status Client::Ingest(const std::string& corpus) {
  v1::Operation operation;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const grpc::Status status = testing::Ingest(*corpora, *operations, corpus, &context, &operation);
  if (status.ok() && operation.has_error()) {
    return {grpc::StatusCode::INTERNAL, operation.error().message()};
  }
  return status;
}

Asked Client::Ask(const v1::AskRequest& request) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  return testing::Ask(*answers, request, &context);
}

Server::Server(std::string name, std::vector<std::string> command, const std::string& log,
               const std::string& address)
    : name_(std::move(name)), command_(std::move(command)), log_(log), address_(address) {
  metrics_ = FreeAddress();
  command_.push_back("--listen=" + address_);
  command_.push_back("--metrics_listen=" + metrics_);
  Start();
}

void Server::Start() {
  process_ = std::make_unique<Process>(command_, log_);
  const std::string line = process_->ReadLine();
  if (line.find(" ready ") == std::string::npos) {
    ADD_FAILURE() << name_ << " is not ready: " << line << "\n" << process_->Log();
  }
}

bool Server::Healthy() const { return Fetch(metrics_, "/healthz").status == 200; }

void Server::AwaitHealth(bool healthy) const {
  while (Healthy() != healthy) std::this_thread::sleep_for(milliseconds(10));
}

double Server::Metric(const std::string& series) const {
  const std::string page = "\n" + Fetch(metrics_, "/metrics").body;
  const size_t at = page.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(page.substr(at + series.size() + 2));
}

void Server::AwaitMetric(const std::string& series, double value) const {
  while (Metric(series) != value) std::this_thread::sleep_for(milliseconds(10));
}

std::string GroupOf(int worker) { return "g" + std::to_string(worker + 1); }

Cluster::Cluster(const ClusterOptions& options) {
  for (int i = 0; i < options.workers; ++i) {
    const std::string group = GroupOf(i);
    const std::string address = FreeAddress();
    worker_to_etcd_.push_back(std::make_unique<Link>(etcd_.address()));
    to_worker_.push_back(std::make_unique<Link>(address));
    std::vector<std::string> command = {Program("lectern-worker"),
                                        "--etcd_endpoints=" + worker_to_etcd_.back()->address(),
                                        "--advertise=" + to_worker_.back()->address(),
                                        "--group=" + group,
                                        "--lease_seconds=" + std::to_string(kLeaseSeconds),
                                        "--data_dir=" + DataDirectory(i),
                                        "--model_dir=" + SmallModel(),
                                        "--pool_bytes=64MiB",
                                        "--index_bytes=64MiB",
                                        "--threads=1"};
    command.insert(command.end(), options.worker_flags.begin(), options.worker_flags.end());
    workers_.push_back(
        std::make_unique<Server>(group, command, directory_ / (group + ".log"), address));
  }
  for (const char* gateway : {"gateway-a", "gateway-b"}) {
    gateway_to_etcd_.push_back(std::make_unique<Link>(etcd_.address()));
    gateways_.push_back(std::make_unique<Server>(
        gateway,
        std::vector<std::string>{Program("lectern-gateway"),
                                 "--etcd_endpoints=" + gateway_to_etcd_.back()->address(),
                                 "--group_patience_seconds=60"},
        directory_ / (std::string(gateway) + ".log")));
    clients_.push_back(std::make_unique<Client>(gateways_.back()->address()));
  }
  balanced_ = std::make_unique<Client>(
      "ipv4:" + gateways_[0]->address() + "," + gateways_[1]->address(), /*of_several=*/true);
  AwaitWhole();
}

void Cluster::AwaitWhole() {
  for (const auto& worker : workers_) worker->AwaitHealth(true);
  for (const auto& gateway : gateways_) {
    gateway->AwaitHealth(true);
    for (const auto& worker : workers_) {
      gateway->AwaitMetric("lectern_cluster_group_ready{group=\"" + worker->name() + "\"}", 1);
    }
    gateway->AwaitMetric("lectern_cluster_store_up", 1);
  }
}

std::string Cluster::DataDirectory(int worker) const { return directory_ / GroupOf(worker); }

std::set<std::string> Cluster::HeldBy(int worker) {
  const auto stub = worker::v1::Worker::NewStub(
      grpc::CreateChannel(workers_[worker]->address(), grpc::InsecureChannelCredentials()));
  v1::ListCorporaRequest request;
  request.set_parent(kTenant);
  request.set_page_size(1000);
  v1::ListCorporaResponse response;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const grpc::Status status = stub->ListCorpora(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::set<std::string> ids;
  for (const v1::Corpus& corpus : response.corpora()) {
    ids.insert(corpus.name().substr(CorpusPath("").size()));
  }
  return ids;
}

}  // namespace lectern::testing
