#include "tests/e2e/deployment.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tests/support/random_model.h"

namespace lectern::testing {
namespace {

std::string AwaitReady(Process& process) {
  std::string line = process.ReadLine();
  if (line.find(" ready ") == std::string::npos) {
    std::fprintf(stderr, "not ready but \"%s\"; its log:\n%s\n", line.c_str(),
                 process.Log().c_str());
    std::abort();
  }
  return line;
}

std::vector<std::string> Join(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

Deployment::Deployment(const DeploymentOptions& options) {
  const std::vector<std::string> listen = {"--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0"};
  const std::vector<std::string> engine_flags =
      Join({"--data_dir=" + options.data_dir, "--model_dir=" + options.model_dir,
            "--pool_bytes=64MiB", "--index_bytes=64MiB"},
           options.engine_flags);
  if (options.topology == Topology::kServe) {
    engine_ = std::make_unique<Process>(
        Join(Join(Join({Program("lectern"), "serve"}, listen), engine_flags),
             options.gateway_flags),
        logs_ / "serve.log");
    ready_line_ = AwaitReady(*engine_);
  } else {
    engine_ = std::make_unique<Process>(
        Join(Join({Program("lectern-worker")}, listen), engine_flags), logs_ / "worker.log");
    const std::string worker = FieldOf(AwaitReady(*engine_), "address");
    gateway_ = std::make_unique<Process>(
        Join(Join({Program("lectern-gateway"), "--worker=" + worker}, listen),
             options.gateway_flags),
        logs_ / "gateway.log");
    ready_line_ = AwaitReady(*gateway_);
  }
  address_ = FieldOf(ready_line_, "address");
  metrics_address_ = FieldOf(ready_line_, "metrics");
  Connect();
}

void Deployment::Connect() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  const auto channel =
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  corpora_ = v1::Corpora::NewStub(channel);
  documents_ = v1::Documents::NewStub(channel);
  operations_ = v1::Operations::NewStub(channel);
  sessions_ = v1::Sessions::NewStub(channel);
  answers_ = v1::Answers::NewStub(channel);
  models_ = v1::Models::NewStub(channel);
  health_ = grpc::health::v1::Health::NewStub(channel);
  // A gateway is ready to be asked before it has found its worker.
  grpc::health::v1::HealthCheckResponse response;
  do {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    const grpc::Status status = health_->Check(&context, {}, &response);
    if (!status.ok()) {
      std::fprintf(stderr, "health: %s\n", status.error_message().c_str());
      std::abort();
    }
  } while (response.status() != grpc::health::v1::HealthCheckResponse::SERVING &&
           usleep(10'000) == 0);
}

void Deployment::KillAll() {
  for (Process* process : {gateway_.get(), engine_.get()}) {
    if (process == nullptr) continue;
    process->Signal(SIGKILL);
    process->Wait();
  }
}

bool Deployment::StopAll() {
  bool clean = true;
  for (Process* process : {gateway_.get(), engine_.get()}) {
    if (process == nullptr) continue;
    process->Signal(SIGTERM);
    clean = process->Wait() == 0 && clean;
  }
  return clean;
}

std::string FieldOf(const std::string& line, const std::string& key) {
  const size_t begin = line.find(" " + key + "=");
  if (begin == std::string::npos) return "";
  const size_t value = begin + key.size() + 2;
  return line.substr(value, line.find(' ', value) - value);
}

std::string CorpusPath(const std::string& id) { return std::string(kTenant) + "/corpora/" + id; }

grpc::Status CreateCorpus(Deployment& deployment, const std::string& id) {
  v1::CreateCorpusRequest request;
  request.set_parent(kTenant);
  request.set_corpus_id(id);
  v1::Corpus corpus;
  grpc::ClientContext context;
  return deployment.corpora().CreateCorpus(&context, request, &corpus);
}

grpc::Status Upload(Deployment& deployment, const v1::UploadDocumentRequest::Header& header,
                    const std::string& bytes, v1::Document* document) {
  constexpr size_t kPiece = 1 << 20;
  v1::Document ignored;
  grpc::ClientContext context;
  const auto writer =
      deployment.documents().UploadDocument(&context, document == nullptr ? &ignored : document);
  v1::UploadDocumentRequest message;
  *message.mutable_header() = header;
  bool open = writer->Write(message);
  for (size_t begin = 0; open && begin < bytes.size(); begin += kPiece) {
    message.set_data(bytes.substr(begin, kPiece));
    open = writer->Write(message);
  }
  writer->WritesDone();
  return writer->Finish();
}

grpc::Status Upload(Deployment& deployment, const std::string& corpus, const std::string& id,
                    const std::string& bytes) {
  v1::UploadDocumentRequest::Header header;
  header.set_parent(CorpusPath(corpus));
  header.set_document_id(id);
  return Upload(deployment, header, bytes);
}

grpc::Status Ingest(v1::Corpora::Stub& corpora, v1::Operations::Stub& operations,
                    const std::string& corpus, grpc::ClientContext* context,
                    v1::Operation* operation) {
  v1::IngestCorpusRequest request;
  request.set_name(CorpusPath(corpus));
  grpc::Status status = corpora.IngestCorpus(context, request, operation);
  while (status.ok() && !operation->done()) {
    v1::WaitOperationRequest wait;
    wait.set_name(operation->name());
    grpc::ClientContext wait_context;
    status = operations.WaitOperation(&wait_context, wait, operation);
  }
  return status;
}

grpc::Status Ingest(Deployment& deployment, const std::string& corpus, v1::Operation* operation) {
  grpc::ClientContext context;
  return Ingest(deployment.corpora(), deployment.operations(), corpus, &context, operation);
}

v1::AskRequest Question(const std::string& corpus, const std::string& text) {
  v1::AskRequest request;
  request.set_corpus(CorpusPath(corpus));
  request.set_question(text);
  request.set_max_tokens(24);
  return request;
}

Asked Ask(v1::Answers::Stub& answers, const v1::AskRequest& request, grpc::ClientContext* context) {
  Asked asked;
  const auto reader = answers.Ask(context, request);
  v1::AskResponse message;
  while (reader->Read(&message)) {
    if (message.has_started()) asked.started = message.started();
    asked.text += message.text();
    if (message.has_completed()) asked.completed = message.completed();
  }
  asked.status = reader->Finish();
  return asked;
}

Asked Ask(Deployment& deployment, const v1::AskRequest& request) {
  grpc::ClientContext context;
  return Ask(deployment.answers(), request, &context);
}

std::string Reason(const grpc::Status& status) { return services::ToRemoteError(status).reason; }

Page Fetch(const std::string& address, const std::string& path) {
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Page page;
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) {
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    std::string answer;
    if (write(descriptor, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      char bytes[4096];
      ssize_t count = 0;
      while ((count = read(descriptor, bytes, sizeof(bytes))) > 0) {
        answer.append(bytes, static_cast<size_t>(count));
      }
    }
    if (answer.starts_with("HTTP/1.1 ")) page.status = std::stoi(answer.substr(9, 3));
    if (const size_t end = answer.find("\r\n\r\n"); end != std::string::npos) {
      page.body = answer.substr(end + 4);
    }
  }
  close(descriptor);
  return page;
}

std::string SmallModel() {
  static const TemporaryDirectory* const directory = [] {
    auto* made = new TemporaryDirectory();
    WriteRandomModel({}, made->path());
    std::atexit([] { std::filesystem::remove_all(SmallModel()); });
    return made;
  }();
  return directory->path();
}

}  // namespace lectern::testing
