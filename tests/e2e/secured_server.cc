#include "tests/e2e/secured_server.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "lectern/v1/models.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "tests/e2e/deployment.h"

namespace lectern::testing {
namespace {

using ::testing::HasSubstr;

std::string Line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

grpc::Status AnyCaller::Call(const std::string& method, const std::string& key,
                             const Message& request, grpc::ByteBuffer* first) {
  grpc::ClientContext context;
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
  context.AddMetadata("x-request-id", "the-same");
  grpc::CompletionQueue queue;
  const auto call = stub_.PrepareCall(&context, "/lectern.v1." + method, &queue);
  const auto next = [&] {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  call->StartCall(nullptr);
  if (next()) {
    const grpc::Slice slice(request.SerializeAsString());
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    next();
    grpc::ByteBuffer answer;
    for (call->Read(&answer, nullptr); next(); call->Read(&answer, nullptr)) {
      if (first != nullptr) first->Swap(&answer);
      first = nullptr;
    }
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  return status;
}

TemporaryDirectory* SecurityTest::folder_ = nullptr;
std::unique_ptr<Process> SecurityTest::server_;
std::shared_ptr<grpc::Channel> SecurityTest::channel_;
std::string SecurityTest::address_;
std::string SecurityTest::metrics_;
std::string SecurityTest::operator_;
std::map<std::string, std::string> SecurityTest::keys_;

void SecurityTest::SetUpTestSuite() {
  folder_ = new TemporaryDirectory();
  operator_ = MakeKey({"--role=operator"});
  server_ = std::make_unique<Process>(
      std::vector<std::string>{Program("lectern"), "serve", "--listen=127.0.0.1:0",
                               "--metrics_listen=127.0.0.1:0", "--data_dir=" + (*folder_ / "data"),
                               "--model_dir=" + SmallModel(), "--pool_bytes=64MiB",
                               "--index_bytes=64MiB", "--keys_file=" + KeysFile(),
                               "--audit_log=" + (*folder_ / "audit.jsonl")},
      *folder_ / "serve.log");
  const std::string line = server_->ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << server_->Log();
  metrics_ = FieldOf(line, "metrics");
  address_ = FieldOf(line, "address");
  channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  for (const char* tenant : {"a", "b"}) {
    v1::CreateTenantRequest request;
    request.set_tenant_id(tenant);
    ASSERT_EQ(Reason(Call("Tenants/CreateTenant", operator_, request)), "");
    for (const char* role : {"reader", "writer", "admin"}) {
      keys_[std::string(tenant) + role] =
          MakeKey({"--role=" + std::string(role), "--tenant=" + std::string(tenant)});
    }
  }
  AwaitKey(keys_["badmin"]);
}

void SecurityTest::TearDownTestSuite() {
  channel_.reset();
  if (server_ != nullptr) {
    server_->Signal(SIGTERM);
    EXPECT_EQ(server_->Wait(), 0);
  }
  server_.reset();
  delete folder_;
}

std::string SecurityTest::MakeKey(const std::vector<std::string>& flags) {
  std::vector<std::string> command = {Program("lectern"), "keys", "create",
                                      "--keys_file=" + KeysFile()};
  command.insert(command.end(), flags.begin(), flags.end());
  const Finished made = RunCommand(command);
  EXPECT_EQ(made.code, 0) << made.errors;
  return Line(made.output);
}

void SecurityTest::AwaitKey(const std::string& key) {
  while (Reason(Call("Models/GetModel", key, v1::GetModelRequest())) == "KEY_INVALID") {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

grpc::Status SecurityTest::Upload(const std::string& key, const std::string& corpus,
                                  const std::string& text) {
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + key);
  v1::Document document;
  const auto stub = v1::Documents::NewStub(channel_);
  const auto writer = stub->UploadDocument(&context, &document);
  v1::UploadDocumentRequest message;
  message.mutable_header()->set_parent(corpus);
  message.mutable_header()->set_document_id("d");
  writer->Write(message);
  message.set_data(text);
  writer->Write(message);
  writer->WritesDone();
  return writer->Finish();
}

v1::Operation SecurityTest::MakeIngested(const std::string& tenant, const std::string& id,
                                         const std::string& text) {
  const std::string& key = keys_[tenant + "writer"];
  v1::CreateCorpusRequest create;
  create.set_parent("tenants/" + tenant);
  create.set_corpus_id(id);
  Get<v1::Corpus>("Corpora/CreateCorpus", key, create);
  const std::string name = "tenants/" + tenant + "/corpora/" + id;
  EXPECT_TRUE(Upload(key, name, text).ok());
  v1::IngestCorpusRequest ingest;
  ingest.set_name(name);
  v1::Operation operation = Get<v1::Operation>("Corpora/IngestCorpus", key, ingest);
  while (!operation.done()) {
    v1::WaitOperationRequest wait;
    wait.set_name(operation.name());
    operation = Get<v1::Operation>("Operations/WaitOperation", key, wait);
  }
  return operation;
}

}  // namespace lectern::testing
