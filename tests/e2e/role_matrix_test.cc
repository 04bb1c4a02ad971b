// Every method by every role, on the own tenant and on another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "lectern/v1/answers.pb.h"
#include "lectern/v1/backups.pb.h"
#include "lectern/v1/cluster.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/secured_server.h"

namespace lectern::testing {
namespace {

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
  } else if (service == "Cluster") {
    set(request.get(), "name", "groups/x");
    set(request.get(), "corpus", corpus);
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
                           v1::Move::descriptor()->file(), v1::Corpus::descriptor()->file(),
                           v1::Model::descriptor()->file(), v1::Operation::descriptor()->file(),
                           v1::Session::descriptor()->file(), v1::Tenant::descriptor()->file()}) {
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
  if (method.starts_with("Tenants/") || method.starts_with("Cluster/")) return "operator";
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
      const bool about_server = method.starts_with("Models/") || method.starts_with("Backups/") ||
                                method.starts_with("Cluster/");
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
  EXPECT_GE(AllMethods().size(), 44u);
}

}  // namespace
}  // namespace lectern::testing
