// Keys, roles, tenants and TLS over real gRPC and real processes.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "lectern/v1/answers.grpc.pb.h"
#include "lectern/v1/backups.grpc.pb.h"
#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/models.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/sessions.grpc.pb.h"
#include "lectern/v1/tenants.grpc.pb.h"
#include "services/rpc/errors.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/process.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using google::protobuf::Message;
using ::testing::HasSubstr;

// Any call of any kind, by name: one message there, and the first that comes back, if it is wanted.
class AnyCaller {
 public:
  explicit AnyCaller(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {}

  grpc::Status Call(const std::string& method, const std::string& key, const Message& request,
                    grpc::ByteBuffer* first = nullptr) {
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

 private:
  grpc::GenericStub stub_;
};

std::string Line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// A server with keys for two tenants that have the same ids in them.
class SecurityTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory();
    operator_ = MakeKey({"--role=operator"});
    server_ = std::make_unique<Process>(
        std::vector<std::string>{
            Program("lectern"), "serve", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
            "--data_dir=" + (*folder_ / "data"), "--model_dir=" + SmallModel(),
            "--pool_bytes=64MiB", "--index_bytes=64MiB", "--keys_file=" + KeysFile(),
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

  static void TearDownTestSuite() {
    channel_.reset();
    if (server_ != nullptr) {
      server_->Signal(SIGTERM);
      EXPECT_EQ(server_->Wait(), 0);
    }
    server_.reset();
    delete folder_;
  }

  static std::string KeysFile() { return *folder_ / "keys.json"; }

  static std::string MakeKey(const std::vector<std::string>& flags) {
    std::vector<std::string> command = {Program("lectern"), "keys", "create",
                                        "--keys_file=" + KeysFile()};
    command.insert(command.end(), flags.begin(), flags.end());
    const Finished made = RunCommand(command);
    EXPECT_EQ(made.code, 0) << made.errors;
    return Line(made.output);
  }

  static grpc::Status Call(const std::string& method, const std::string& key,
                           const Message& request) {
    return AnyCaller(channel_).Call(method, key, request);
  }

  // The server has read the keys file since the key was written.
  static void AwaitKey(const std::string& key) {
    while (Reason(Call("Models/GetModel", key, v1::GetModelRequest())) == "KEY_INVALID") {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // The answer of a unary call that must succeed.
  template <typename Response>
  static Response Get(const std::string& method, const std::string& key, const Message& request) {
    grpc::ByteBuffer bytes;
    const grpc::Status status = AnyCaller(channel_).Call(method, key, request, &bytes);
    EXPECT_TRUE(status.ok()) << method << ": " << status.error_message();
    Response response;
    grpc::Slice slice;
    EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
    EXPECT_TRUE(response.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
    return response;
  }

  static grpc::Status Upload(const std::string& key, const std::string& corpus,
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

  static v1::Operation MakeIngested(const std::string& tenant, const std::string& id,
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

  static TemporaryDirectory* folder_;
  static std::unique_ptr<Process> server_;
  static std::shared_ptr<grpc::Channel> channel_;
  static std::string address_;
  static std::string metrics_;
  static std::string operator_;
  static std::map<std::string, std::string> keys_;  // "areader", ...
};
TemporaryDirectory* SecurityTest::folder_ = nullptr;
std::unique_ptr<Process> SecurityTest::server_;
std::shared_ptr<grpc::Channel> SecurityTest::channel_;
std::string SecurityTest::address_;
std::string SecurityTest::metrics_;
std::string SecurityTest::operator_;
std::map<std::string, std::string> SecurityTest::keys_;

// ---- the matrix ----

// What a request of `method` is like when it is about `tenant`: every string field that holds a
// name gets one of it, so that a method that is added is in the matrix by itself.
std::unique_ptr<Message> RequestAbout(const google::protobuf::MethodDescriptor& method,
                                      const std::string& tenant) {
  const Message* prototype =
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(method.input_type());
  std::unique_ptr<Message> request(prototype->New());
  const std::string root = "tenants/" + tenant;
  // What is destroyed or changed does not exist: reaching the engine is what counts.
  const std::string corpus = root + "/corpora/nothing";
  const auto set = [&](Message* message, const char* field, const std::string& value) {
    const auto* descriptor = message->GetDescriptor()->FindFieldByName(field);
    if (descriptor != nullptr) message->GetReflection()->SetString(message, descriptor, value);
    return descriptor != nullptr;
  };
  const std::string& name = method.name();
  const std::string& service = method.service()->name();
  if (name == "UploadDocument") {
    v1::UploadDocumentRequest upload;
    upload.mutable_header()->set_parent(corpus);
    upload.mutable_header()->set_document_id("d");
    request->CopyFrom(upload);
  } else if (name == "UpdateCorpus") {
    v1::UpdateCorpusRequest update;
    update.mutable_corpus()->set_name(corpus);
    update.mutable_update_mask()->add_paths("display_name");
    request->CopyFrom(update);
  } else if (service == "Backups") {
    set(request.get(), "name", "backups/x");
  } else if (service == "Tenants") {
    if (name == "UpdateTenant") {
      v1::UpdateTenantRequest update;
      update.mutable_tenant()->set_name(root);
      update.mutable_update_mask()->add_paths("display_name");
      request->CopyFrom(update);
    } else if (name != "DeleteTenant") {  // which would: it gets no name
      set(request.get(), "name", root);
    }
  } else if (name == "CreateCorpus" || name == "ListCorpora" || name == "CountTokens") {
    set(request.get(), "parent", root);
    set(request.get(), "text", "text");
    set(request.get(), "corpus_id", "made");
  } else if (service == "Answers") {
    set(request.get(), "corpus", corpus);
  } else if (name == "ListTurns") {
    set(request.get(), "parent", corpus + "/sessions/s");
  } else if (!set(request.get(), "parent", corpus) && service != "Models") {
    const bool of_corpus = name.find("Corpus") != std::string::npos;
    const std::string collection = service == "Documents"    ? "documents"
                                   : service == "Operations" ? "operations"
                                   : service == "Sessions"   ? "sessions"
                                                             : "generations";
    set(request.get(), "name", of_corpus ? corpus : corpus + "/" + collection + "/" + "x");
  }
  return request;
}

struct Row {
  std::string method;
  const google::protobuf::MethodDescriptor* descriptor;
};

std::vector<Row> AllMethods() {
  std::vector<Row> rows;
  for (const auto* file : {v1::AskRequest::descriptor()->file(), v1::Backup::descriptor()->file(),
                           v1::Corpus::descriptor()->file(), v1::Model::descriptor()->file(),
                           v1::Operation::descriptor()->file(), v1::Session::descriptor()->file(),
                           v1::Tenant::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        const auto* method = file->service(i)->method(j);
        rows.push_back({file->service(i)->name() + "/" + method->name(), method});
      }
    }
  }
  return rows;
}

// The least role that the API's documentation gives each method to, written down once more.
std::string LeastRole(const std::string& method) {
  static const std::map<std::string, std::string> special = {
      {"Models/GetModel", "any"},
      {"Backups/CreateBackup", "operator"},
      {"Backups/GetBackup", "operator"},
      {"Backups/ListBackups", "operator"},
      {"Backups/CancelBackup", "operator"},
      {"Models/GetStats", "operator"},
      {"Tenants/GetTenant", "reader or operator"},
      {"Corpora/DeleteCorpus", "admin"},
      {"Sessions/CreateSession", "reader"},
      {"Sessions/ForkSession", "reader"},
      {"Answers/Ask", "reader"},
      {"Answers/Retrieve", "reader"},
      {"Answers/CountTokens", "reader"},
      {"Operations/WaitOperation", "reader"}};
  if (const auto found = special.find(method); found != special.end()) return found->second;
  if (method.starts_with("Tenants/")) return "operator";
  const std::string verb = method.substr(method.find('/') + 1);
  return verb.starts_with("Get") || verb.starts_with("List") ? "reader" : "writer";
}

bool MayCall(const std::string& role, const std::string& least) {
  const std::vector<std::string> ladder = {"reader", "writer", "admin"};
  if (least == "any" || least == "reader or operator") return true;
  if (role == "operator" || least == "operator") return role == least;
  const auto rank = [&](const std::string& name) {
    return std::find(ladder.begin(), ladder.end(), name) - ladder.begin();
  };
  return rank(role) >= rank(least);
}

TEST_F(SecurityTest, EveryMethodByEveryRoleOnOwnAndOtherTenants) {
  int cells = 0;
  for (const auto& [method, descriptor] : AllMethods()) {
    const auto reason = [&](const std::string& key, const std::string& tenant) {
      ++cells;
      return Reason(Call(method, key, *RequestAbout(*descriptor, tenant)));
    };
    EXPECT_EQ(reason("", "a"), "KEY_MISSING") << method;
    EXPECT_EQ(reason("lectern_0123456789abcdef_" + std::string(64, '0'), "a"), "KEY_INVALID");
    for (const std::string role : {"reader", "writer", "admin", "operator"}) {
      SCOPED_TRACE(method + " as " + role);
      const std::string& key = role == "operator" ? operator_ : keys_["a" + role];
      const std::string least = LeastRole(method);
      const bool about_tenants = method.starts_with("Tenants/");
      const bool about_server = method.starts_with("Models/") || method.starts_with("Backups/");
      if (!MayCall(role, least)) {
        EXPECT_EQ(reason(key, "a"), "ROLE_INSUFFICIENT");
        // The refusal says nothing about the name: own, another's and nobody's read the same.
        const auto own = Call(method, key, *RequestAbout(*descriptor, "a"));
        for (const char* tenant : {"b", "nobody"}) {
          const auto other = Call(method, key, *RequestAbout(*descriptor, tenant));
          EXPECT_EQ(other.error_code(), grpc::StatusCode::PERMISSION_DENIED);
          EXPECT_EQ(other.error_message(), own.error_message());
          EXPECT_EQ(services::ToRemoteError(other).metadata, services::ToRemoteError(own).metadata);
        }
        continue;
      }
      const std::string own = reason(key, "a");
      for (const char* not_allowed : {"KEY_MISSING", "KEY_INVALID", "ROLE_INSUFFICIENT",
                                      "TENANT_NOT_FOUND", "UNIMPLEMENTED"}) {
        EXPECT_NE(own, not_allowed);
      }
      if (about_server || (about_tenants && role == "operator")) continue;
      // Another tenant's resources: as if there were no such tenant, to the letter.
      const auto existing = Call(method, key, *RequestAbout(*descriptor, "b"));
      const auto missing = Call(method, key, *RequestAbout(*descriptor, "z"));
      EXPECT_EQ(existing.error_code(), grpc::StatusCode::NOT_FOUND);
      EXPECT_EQ(Reason(existing), "TENANT_NOT_FOUND");
      const auto without_name = [](std::string text, char id) {
        for (char& c : text) c = c == id ? '?' : c;
        return text;
      };
      EXPECT_EQ(without_name(existing.error_message(), 'b'),
                without_name(without_name(missing.error_message(), 'z'), 'b'));
      cells += 2;
    }
  }
  std::printf("tenant matrix: %d calls over %zu methods\n", cells, AllMethods().size());
  EXPECT_GE(AllMethods().size(), 37u);
}

TEST_F(SecurityTest, TheSameBytesHitOnlyInTheirOwnTenant) {
  const std::string text = RandomText(1200, 21);
  const v1::Operation first = MakeIngested("a", "one", text);
  ASSERT_FALSE(first.has_error()) << first.error().message();
  EXPECT_EQ(first.metadata().tokens_cached(), 0);
  const v1::Operation other = MakeIngested("b", "one", text);
  EXPECT_EQ(other.metadata().tokens_total(), first.metadata().tokens_total());
  EXPECT_EQ(other.metadata().tokens_cached(), 0) << "another tenant's blocks";
  const v1::Operation own = MakeIngested("a", "two", text);
  EXPECT_EQ(own.metadata().tokens_cached(), first.metadata().tokens_total() / 128 * 128);

  v1::ListCorporaRequest list;
  list.set_parent("tenants/b");
  const auto corpora = Get<v1::ListCorporaResponse>("Corpora/ListCorpora", keys_["breader"], list);
  EXPECT_EQ(corpora.corpora_size(), 1);
  // An operation of another tenant, by its true id under one's own name.
  v1::GetOperationRequest operation;
  operation.set_name("tenants/b/corpora/one" +
                     first.name().substr(first.name().find("/operations/")));
  EXPECT_EQ(Reason(Call("Operations/GetOperation", keys_["breader"], operation)),
            "OPERATION_NOT_FOUND");
}

TEST_F(SecurityTest, QuotasSayWhatTheyAreAndWhenToComeBack) {
  MakeIngested("b", "quota", RandomText(600, 22));
  v1::UpdateTenantRequest update;
  update.mutable_tenant()->set_name("tenants/b");
  update.mutable_tenant()->mutable_quota()->set_tokens_per_minute(1);
  update.mutable_update_mask()->add_paths("quota.tokens_per_minute");
  const auto limited = Get<v1::Tenant>("Tenants/UpdateTenant", operator_, update);
  EXPECT_EQ(limited.quota().tokens_per_minute(), 1);
  v1::AskRequest ask;
  ask.set_corpus("tenants/b/corpora/quota");
  ask.set_question("what?");
  EXPECT_TRUE(Call("Answers/Ask", keys_["breader"], ask).ok()) << "one token is left";
  const grpc::Status refused = Call("Answers/Ask", keys_["breader"], ask);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Reason(refused), "TOKEN_QUOTA_EXCEEDED");
  EXPECT_GT(*services::ToRemoteError(refused).retry_seconds, 1);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(refused.error_details()));
  bool quota = false;
  for (const auto& detail : details.details()) quota |= detail.Is<google::rpc::QuotaFailure>();
  EXPECT_TRUE(quota);

  v1::GetTenantRequest get;
  get.set_name("tenants/b");
  const auto tenant = Get<v1::Tenant>("Tenants/GetTenant", keys_["breader"], get);
  EXPECT_LT(tenant.usage().tokens_available(), 1);
  EXPECT_GT(tenant.usage().cache_bytes(), 0);

  update.mutable_update_mask()->set_paths(0, "quota");
  update.mutable_tenant()->mutable_quota()->set_tokens_per_minute(0);
  update.mutable_tenant()->mutable_quota()->set_disk_bytes(1);
  Get<v1::Tenant>("Tenants/UpdateTenant", operator_, update);
  const grpc::Status full = Upload(keys_["bwriter"], "tenants/b/corpora/quota", "some bytes");
  EXPECT_EQ(Reason(full), "DISK_QUOTA_EXCEEDED");
  EXPECT_FALSE(services::ToRemoteError(full).retry_seconds.has_value()) << "waiting does not help";
  update.mutable_tenant()->mutable_quota()->set_disk_bytes(0);
  Get<v1::Tenant>("Tenants/UpdateTenant", operator_, update);
}

// The most memory that the process ever held, in bytes.
int64_t PeakMemory(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) << 10;
  }
  return 0;
}

TEST_F(SecurityTest, WithoutAKeyNothingOfARequestIsRead) {
  constexpr int kCalls = 48;
  constexpr int64_t kBytes = int64_t{15} << 20;
  v1::CountTokensRequest request;
  request.set_parent("tenants/a");
  request.set_text(std::string(kBytes, 'x'));
  const grpc::Slice slice(request.SerializeAsString());
  const grpc::ByteBuffer message(&slice, 1);
  const int64_t before = PeakMemory(server_->pid());
  ASSERT_GT(before, 0);
  // All at once, on one connection, unary and streaming answers.
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  struct Pending {
    grpc::ClientContext context;
    grpc::ByteBuffer answer;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
  };
  std::vector<std::unique_ptr<Pending>> calls;
  for (int i = 0; i < kCalls; ++i) {
    auto& call = *calls.emplace_back(std::make_unique<Pending>());
    call.reader = stub.PrepareUnaryCall(
        &call.context, i % 2 == 0 ? "/lectern.v1.Answers/CountTokens" : "/lectern.v1.Answers/Ask",
        message, &queue);
    call.reader->StartCall();
    call.reader->Finish(&call.answer, &call.status, &call);
  }
  for (int i = 0; i < kCalls; ++i) {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(Reason(static_cast<Pending*>(tag)->status), "KEY_MISSING");
  }
  const int64_t held = PeakMemory(server_->pid()) - before;
  std::printf("%d requests of %lld bytes without a key: %lld bytes held\n", kCalls,
              static_cast<long long>(kBytes), static_cast<long long>(held));
  EXPECT_LT(held, kBytes * 4) << "not even a tenth of what was sent";
  // Who has a key may send that much.
  EXPECT_NE(Reason(Call("Answers/CountTokens", keys_["areader"], request)), "REQUEST_UNREADABLE");
  request.set_text(std::string(17 << 20, 'x'));
  EXPECT_EQ(Call("Answers/CountTokens", keys_["areader"], request).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(SecurityTest, ARequestThatIsNoneIsRefusedWithAReason) {
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + keys_["areader"]);
  const grpc::Slice slice("\xff\xff\xff no message");
  const auto reader = stub.PrepareUnaryCall(&context, "/lectern.v1.Corpora/GetCorpus",
                                            grpc::ByteBuffer(&slice, 1), &queue);
  grpc::ByteBuffer answer;
  grpc::Status status;
  reader->StartCall();
  reader->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Reason(status), "REQUEST_UNREADABLE");
}

TEST_F(SecurityTest, KeysComeAndGoWithoutARestart) {
  const std::string key = MakeKey({"--role=reader", "--tenant=a", "--note=short-lived"});
  AwaitKey(key);
  const Finished listed =
      RunCommand({Program("lectern"), "keys", "list", "--json", "--keys_file=" + KeysFile()});
  const nlohmann::json keys = nlohmann::json::parse(listed.output);
  EXPECT_EQ(keys.back()["note"], "short-lived");
  EXPECT_EQ(listed.output.find(key.substr(key.rfind('_') + 1)), std::string::npos);
  const std::string id = key.substr(8, 16);
  EXPECT_EQ(
      RunCommand({Program("lectern"), "keys", "revoke", id, "--keys_file=" + KeysFile()}).code, 0);
  while (Call("Models/GetModel", key, v1::GetModelRequest()).ok()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(Reason(Call("Models/GetModel", key, v1::GetModelRequest())), "KEY_INVALID");
  EXPECT_NE(
      RunCommand({Program("lectern"), "keys", "revoke", id, "--keys_file=" + KeysFile()}).code, 0);
}

TEST_F(SecurityTest, ActsOfAdministrationAreOnRecord) {
  v1::CreateTenantRequest create;
  create.set_tenant_id("audited");
  ASSERT_TRUE(Call("Tenants/CreateTenant", operator_, create).ok());
  EXPECT_FALSE(Call("Tenants/CreateTenant", keys_["aadmin"], create).ok());
  v1::DeleteTenantRequest remove;
  remove.set_name("tenants/audited");
  ASSERT_TRUE(Call("Tenants/DeleteTenant", operator_, remove).ok());
  v1::CreateBackupRequest backup;
  backup.set_backup_id("audited");
  EXPECT_EQ(Reason(Call("Backups/CreateBackup", operator_, backup)), "BACKUP_DIR_MISSING");

  std::vector<nlohmann::json> events;
  std::ifstream file(*folder_ / "audit.jsonl");
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json event = nlohmann::json::parse(line);
    if (event["resource"] == "tenants/audited" || event["resource"] == "backups/audited" ||
        event["event"] == "denied") {
      events.push_back(event);
    }
  }
  ASSERT_GE(events.size(), 5u);
  const auto count = [&](const std::string& event, const std::string& method,
                         const std::string& role) {
    return std::count_if(events.begin(), events.end(), [&](const nlohmann::json& line) {
      return line["event"] == event && line["method"] == method && line["role"] == role;
    });
  };
  EXPECT_EQ(count("begin", "Tenants/CreateTenant", "operator"), 1);
  EXPECT_EQ(count("end", "Tenants/CreateTenant", "operator"), 1);
  EXPECT_EQ(count("begin", "Tenants/DeleteTenant", "operator"), 1);
  EXPECT_EQ(count("end", "Tenants/DeleteTenant", "operator"), 1);
  EXPECT_EQ(count("begin", "Backups/CreateBackup", "operator"), 1);
  EXPECT_GE(count("denied", "Tenants/CreateTenant", "admin"), 1);
  EXPECT_EQ(events.front()["key"].get<std::string>().size(), 16u);
}

TEST_F(SecurityTest, MetricsNameTenantsThatKeysVouchedForAndNoOthers) {
  v1::ListCorporaRequest list;
  list.set_parent("tenants/made-up");
  Call("Corpora/ListCorpora", keys_["areader"], list);
  Call("Corpora/ListCorpora", "nonsense", list);
  const std::string page = Fetch(metrics_, "/metrics").body;
  EXPECT_THAT(page, HasSubstr("lectern_tenant_requests_total"));
  EXPECT_THAT(page, HasSubstr("tenant=\"a\""));
  EXPECT_EQ(page.find("made-up"), std::string::npos);
}

TEST_F(SecurityTest, TheCommandLineTakesKeyAndTenantFromItsSurroundings) {
  const std::string file = *folder_ / "operator.key";
  std::ofstream(file) << operator_ << "\n";
  const std::string address = "--address=" + address_;
  const Finished tenants = RunCommand(
      {Program("lectern"), "tenants", "list", "--json", address, "--api_key_file=" + file});
  EXPECT_EQ(tenants.code, 0) << tenants.errors;
  EXPECT_THAT(tenants.output, HasSubstr("tenants/a"));
  const Finished missing = RunCommand({Program("lectern"), "corpora", "list", address});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.errors, HasSubstr("KEY_MISSING"));
  std::ofstream(file) << keys_["areader"];
  const Finished corpora = RunCommand(
      {Program("lectern"), "corpora", "list", address, "--tenant=a", "--api_key_file=" + file});
  EXPECT_EQ(corpora.code, 0) << corpora.errors;
  const Finished open = RunCommand(
      {Program("lectern"), "corpora", "list", "--address=192.0.2.1:1", "--api_key_file=" + file});
  EXPECT_EQ(open.code, 2);
  EXPECT_THAT(open.errors, HasSubstr("--tls"));
}

// ---- TLS ----

class TlsTest : public ::testing::Test {
 protected:
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::vector<std::string> Serve(const std::vector<std::string>& flags) {
    std::vector<std::string> command = {Program("lectern"),
                                        "serve",
                                        "--metrics_listen=127.0.0.1:0",
                                        "--data_dir=" + (folder_ / "data"),
                                        "--model_dir=" + SmallModel(),
                                        "--pool_bytes=64MiB",
                                        "--index_bytes=64MiB"};
    command.insert(command.end(), flags.begin(), flags.end());
    return command;
  }

  static grpc::Status GetModel(const std::string& address,
                               const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;  // a connection of its own every time
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub =
        v1::Models::NewStub(grpc::CreateCustomChannel(address, credentials, arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::Model model;
    return stub->GetModel(&context, {}, &model);
  }

  std::shared_ptr<grpc::ChannelCredentials> Client(const std::string& ca,
                                                   const std::string& name = "") {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = Read(ca);
    if (!name.empty()) {
      options.pem_cert_chain = Read(certificates_.Issue(name).certificate);
      options.pem_private_key = Read(certificates_.Issue(name).key);
    }
    return grpc::SslCredentials(options);
  }

  const TemporaryDirectory folder_;
  const Certificates certificates_{folder_.path()};
};

TEST_F(TlsTest, MutualTlsTakesNobodyElse) {
  const Certificates::Files server = certificates_.Issue("server");
  Process process(Serve({"--listen=127.0.0.1:0", "--tls_certificate=" + server.certificate,
                         "--tls_key=" + server.key, "--tls_client_ca=" + certificates_.ca()}),
                  folder_ / "log");
  const std::string line = process.ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << process.Log();
  const std::string address = FieldOf(line, "address");
  EXPECT_TRUE(GetModel(address, Client(certificates_.ca(), "client")).ok());
  EXPECT_FALSE(GetModel(address, Client(certificates_.ca())).ok()) << "no certificate";
  EXPECT_FALSE(GetModel(address, grpc::InsecureChannelCredentials()).ok()) << "no TLS";
  const TemporaryDirectory elsewhere;
  const Certificates others(elsewhere.path());
  EXPECT_FALSE(GetModel(address, Client(others.ca(), "client")).ok()) << "not our server";
  grpc::SslCredentialsOptions stranger;
  stranger.pem_root_certs = Read(certificates_.ca());
  stranger.pem_cert_chain = Read(others.Issue("client").certificate);
  stranger.pem_private_key = Read(others.Issue("client").key);
  EXPECT_FALSE(GetModel(address, grpc::SslCredentials(stranger)).ok()) << "another CA's client";

  const Finished model = RunCommand(
      {Program("lectern"), "model", "--address=" + address, "--tls_ca=" + certificates_.ca(),
       "--tls_client_certificate=" + certificates_.Issue("client").certificate,
       "--tls_client_key=" + certificates_.Issue("client").key});
  EXPECT_EQ(model.code, 0) << model.errors;
  const Finished plain = RunCommand({Program("lectern"), "model", "--address=" + address});
  EXPECT_EQ(plain.code, 3) << plain.errors;
}

TEST_F(TlsTest, CertificatesAreRenewedWithoutARestart) {
  // As Kubernetes does it: a symbolic link to a folder, replaced as a whole.
  const TemporaryDirectory old_home;
  const TemporaryDirectory new_home;
  const Certificates before(old_home.path());
  const Certificates after(new_home.path());
  before.Issue("server");
  after.Issue("server");
  const std::string link = folder_ / "tls";
  std::filesystem::create_directory_symlink(old_home.path(), link);
  Process process(Serve({"--listen=127.0.0.1:0", "--tls_certificate=" + link + "/server.pem",
                         "--tls_key=" + link + "/server.key"}),
                  folder_ / "log");
  const std::string line = process.ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << process.Log();
  const std::string address = FieldOf(line, "address");
  EXPECT_TRUE(GetModel(address, Client(before.ca())).ok());
  EXPECT_FALSE(GetModel(address, Client(after.ca())).ok());
  std::filesystem::create_directory_symlink(new_home.path(), link + ".new");
  std::filesystem::rename(link + ".new", link);
  while (!GetModel(address, Client(after.ca())).ok()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_FALSE(GetModel(address, Client(before.ca())).ok());
}

TEST_F(TlsTest, GatewayAndWorkerAuthenticateEachOther) {
  const Certificates::Files worker = certificates_.Issue("worker");
  const Certificates::Files gateway = certificates_.Issue("gateway");
  Process engine(
      {Program("lectern-worker"), "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
       "--data_dir=" + (folder_ / "data"), "--model_dir=" + SmallModel(), "--pool_bytes=64MiB",
       "--index_bytes=64MiB", "--tls_certificate=" + worker.certificate, "--tls_key=" + worker.key,
       "--tls_client_ca=" + certificates_.ca()},
      folder_ / "worker.log");
  const std::string worker_line = engine.ReadLine();
  ASSERT_THAT(worker_line, HasSubstr(" ready ")) << engine.Log();
  Process front(
      {Program("lectern-gateway"), "--worker=" + FieldOf(worker_line, "address"),
       "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", "--worker_ca=" + certificates_.ca(),
       "--worker_certificate=" + gateway.certificate, "--worker_key=" + gateway.key},
      folder_ / "gateway.log");
  const std::string line = front.ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << front.Log();
  while (!GetModel(FieldOf(line, "address"), grpc::InsecureChannelCredentials()).ok()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

TEST_F(TlsTest, HalfConfigurationsAndOpenDoorsAreRefusedAtTheStart) {
  const Certificates::Files server = certificates_.Issue("server");
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--listen=127.0.0.1:0", "--tls_certificate=" + server.certificate}, "--tls_key"},
      {{"--listen=127.0.0.1:0", "--tls_client_ca=" + certificates_.ca()}, "--tls_certificate"},
      {{"--listen=0.0.0.0:0"}, "--allow_insecure"},
      {{"--listen=0.0.0.0:0", "--tls_certificate=" + server.certificate, "--tls_key=" + server.key},
       "--keys_file"},
      {{"--listen=127.0.0.1:0", "--keys_file=" + (folder_ / "nowhere.json")}, "KEYS_FILE_MISSING"},
      {{"--listen=127.0.0.1:0", "--audit_log=" + (folder_ / "no/folder/log")}, "AUDIT_LOG_FAILED"}};
  for (const auto& [flags, message] : cases) {
    const Finished finished = RunCommand(Serve(flags));
    EXPECT_EQ(finished.code, 1) << message;
    EXPECT_THAT(finished.errors, HasSubstr(message));
  }
  const Finished worker = RunCommand({Program("lectern-worker"), "--listen=0.0.0.0:0"});
  EXPECT_EQ(worker.code, 1);
  EXPECT_THAT(worker.errors, HasSubstr("--tls_client_ca"));
  Process open(Serve({"--listen=0.0.0.0:0", "--allow_insecure"}), folder_ / "log");
  EXPECT_THAT(open.ReadLine(), HasSubstr(" ready ")) << "said so";
}

}  // namespace
}  // namespace lectern::testing
