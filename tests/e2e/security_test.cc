// Keys, tenants, quotas and the audit log over real gRPC and real processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "lectern/v1/answers.pb.h"
#include "lectern/v1/backups.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "services/rpc/errors.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/secured_server.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using ::testing::HasSubstr;

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

}  // namespace
}  // namespace lectern::testing
