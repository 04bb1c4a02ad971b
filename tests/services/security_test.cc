// Keys, roles, the keys file, the audit log and TLS, without a server behind them (tests/e2e has
// one).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "engine/error/error.h"
#include "lectern/v1/answers.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "services/security/access.h"
#include "services/security/api_key.h"
#include "services/security/audit_log.h"
#include "services/security/key_ring.h"
#include "services/security/keys_file.h"
#include "services/security/listen_security.h"
#include "services/security/tls.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"

namespace lectern::services {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr int64_t kNow = 1'700'000'000'000'000;

std::string Read(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

KeyEntry Entry(const NewKey& key, const std::string& tenant, Role role) {
  return {.id = key.id, .tenant = tenant, .role = role, .hash = key.hash, .create_time_us = kNow};
}

absl::Status Add(const std::string& path, const KeyEntry& entry) {
  return ChangeKeysFile(path, [&](std::vector<KeyEntry>& keys) {
    keys.push_back(entry);
    return absl::OkStatus();
  });
}

std::string ReasonFor(const KeyRing& ring, const std::string& header, int64_t now = kNow) {
  return engine::ReasonOf(ring.Authenticate(header, now).status());
}

TEST(AccessTest, EveryPublicMethodHasARule) {
  size_t methods = 0;
  for (const auto* file : {v1::AskRequest::descriptor()->file(), v1::Corpus::descriptor()->file(),
                           v1::Model::descriptor()->file(), v1::Operation::descriptor()->file(),
                           v1::Session::descriptor()->file(), v1::Tenant::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        const std::string name =
            file->service(i)->name() + "/" + file->service(i)->method(j)->name();
        EXPECT_TRUE(IsListed(name)) << name;
        ++methods;
      }
    }
  }
  EXPECT_GE(methods, 32u);
  EXPECT_EQ(AccessOf("Corpora/NobodyThoughtOfThis"), Access::kOperator);
}

TEST(AccessTest, EachRoleMayWhatTheLesserMayAndOperatorsTouchNoTenant) {
  const Role of_tenants[] = {Role::kReader, Role::kWriter, Role::kAdmin};
  const Access needs[] = {Access::kReader, Access::kWriter, Access::kAdmin};
  for (size_t role = 0; role < 3; ++role) {
    for (size_t need = 0; need < 3; ++need) {
      EXPECT_EQ(Allows(of_tenants[role], needs[need]), role >= need);
      EXPECT_FALSE(Allows(Role::kOperator, needs[need]));
    }
    EXPECT_FALSE(Allows(of_tenants[role], Access::kOperator));
    EXPECT_TRUE(Allows(of_tenants[role], Access::kReaderOrOperator));
    EXPECT_TRUE(Allows(of_tenants[role], Access::kAnyone));
  }
  EXPECT_TRUE(Allows(Role::kOperator, Access::kOperator));
  for (const char* name : {"reader", "writer", "admin", "operator"}) {
    ASSERT_TRUE(ParseRole(name).has_value());
    EXPECT_EQ(RoleName(*ParseRole(name)), name);
  }
  EXPECT_FALSE(ParseRole("root").has_value());
}

TEST(ApiKeyTest, KeysAreRandomAndOnlyTheirHashesAreKept) {
  std::set<std::string> texts;
  for (int i = 0; i < 100; ++i) {
    const NewKey key = MakeKey();
    EXPECT_TRUE(texts.insert(key.text).second);
    EXPECT_EQ(key.text.size(), 8u + 16 + 1 + 64);
    EXPECT_EQ(KeyIdOf(key.text), key.id);
    EXPECT_EQ(HashKey(key.text), key.hash);
    EXPECT_EQ(KeyHashFromHex(ToHex(key.hash)), key.hash);
  }
  const NewKey key = MakeKey();
  KeyHash other = key.hash;
  EXPECT_TRUE(SameHash(key.hash, other));
  other[31] ^= 1;
  EXPECT_FALSE(SameHash(key.hash, other));
  EXPECT_FALSE(KeyIdOf("").has_value());
  EXPECT_FALSE(KeyIdOf(key.text + "0").has_value());
  EXPECT_FALSE(KeyIdOf("x" + key.text.substr(1)).has_value());
  std::string upper = key.text;
  upper.back() = 'G';
  EXPECT_FALSE(KeyIdOf(upper).has_value());
}

TEST(KeysFileTest, WhatIsWrittenIsReadAgainWithoutAnySecret) {
  const TemporaryDirectory folder;
  const std::string path = folder / "keys.json";
  const NewKey key = MakeKey();
  KeyEntry entry = Entry(key, "acme", Role::kWriter);
  entry.expire_time_us = kNow + 5'000'000;
  entry.note = "nightly \"job\"";
  ASSERT_TRUE(Add(path, entry).ok());
  ASSERT_TRUE(Add(path, Entry(MakeKey(), "", Role::kOperator)).ok());
  const auto keys = ReadKeysFile(path);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 2u);
  const KeyEntry& read = keys->front();
  EXPECT_EQ(read.id, key.id);
  EXPECT_EQ(read.tenant, "acme");
  EXPECT_EQ(read.role, Role::kWriter);
  EXPECT_EQ(read.hash, key.hash);
  EXPECT_EQ(read.create_time_us, kNow);
  EXPECT_EQ(read.expire_time_us, kNow + 5'000'000);
  EXPECT_EQ(read.note, "nightly \"job\"");
  EXPECT_EQ(keys->back().role, Role::kOperator);
  const std::string secret = key.text.substr(key.text.rfind('_') + 1);
  EXPECT_EQ(Read(path).find(secret), std::string::npos);
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST(KeysFileTest, WhatMayNotBeReadIsRefusedByReason) {
  const TemporaryDirectory folder;
  const std::string path = folder / "keys.json";
  EXPECT_EQ(engine::ReasonOf(ReadKeysFile(path).status()), "KEYS_FILE_MISSING");
  ASSERT_TRUE(Add(path, Entry(MakeKey(), "acme", Role::kReader)).ok());
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(engine::ReasonOf(ReadKeysFile(path).status()), "KEYS_FILE_EXPOSED");
  EXPECT_EQ(engine::ReasonOf(Add(folder / "no/such/folder", {})), "KEYS_FILE_UNWRITABLE");
}

TEST(KeysFileTest, EveryMistakeInTheFileIsNamed) {
  const NewKey key = MakeKey();
  const std::string good = nlohmann::json{
      {"id", key.id},
      {"tenant", "acme"},
      {"role", "reader"},
      {"sha256",
       ToHex(key.hash)}}.dump();
  const auto with = [&](const std::string& name, const nlohmann::json& value) {
    nlohmann::json item = nlohmann::json::parse(good);
    item[name] = value;
    return nlohmann::json{{"keys", {item}}}.dump();
  };
  ASSERT_TRUE(ParseKeys("{\"keys\": [" + good + "]}").ok());
  const std::pair<std::string, std::string> cases[] = {
      {"", "no JSON object"},
      {"[]", "no JSON object"},
      {"{}", "a list \"keys\""},
      {R"({"keys": [], "more": 1})", "nothing else"},
      {R"({"keys": [1]})", "no object"},
      {R"({"keys": [{}]})", "without \"id\""},
      {"{\"keys\": [" + good + "," + good + "]}", "twice"},
      {with("role", "root"), "\"root\""},
      {with("sha256", "12"), "sha256"},
      {with("tenant", "No Tenant"), "No Tenant"},
      {with("tenant", ""), "of role reader"},
      {with("role", "operator"), "of role operator"},
      {with("expire", "2026-01-01T00:00:00Z"), "\"expire\""},
      {with("expire_time", "tomorrow"), "tomorrow"},
      {with("note", 1), "note"}};
  for (const auto& [text, message] : cases) {
    const absl::Status status = ParseKeys(text).status();
    EXPECT_EQ(engine::ReasonOf(status), "KEYS_FILE_INVALID") << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  const std::string deep(100'000, '[');
  EXPECT_FALSE(ParseKeys(deep).ok()) << "nesting is no way to use up the stack";
}

TEST(KeyRingTest, AKeyStandsForItsTenantAndRole) {
  const TemporaryDirectory folder;
  const std::string path = folder / "keys.json";
  const NewKey key = MakeKey();
  KeyEntry entry = Entry(key, "acme", Role::kAdmin);
  entry.expire_time_us = kNow + 10'000'000;
  ASSERT_TRUE(Add(path, entry).ok());
  const auto ring = KeyRing::Open(path);
  ASSERT_TRUE(ring.ok()) << ring.status();

  const auto principal = (*ring)->Authenticate("Bearer " + key.text, kNow);
  ASSERT_TRUE(principal.ok()) << principal.status();
  EXPECT_EQ(principal->tenant, "acme");
  EXPECT_EQ(principal->role, Role::kAdmin);
  EXPECT_EQ(principal->key_id, key.id);

  EXPECT_EQ(ReasonFor(**ring, ""), "KEY_MISSING");
  std::string other = key.text;
  other.back() = other.back() == '0' ? '1' : '0';
  const std::string texts[] = {"Bearer " + key.text + " ", "Basic " + key.text, key.text,
                               "Bearer " + MakeKey().text, "Bearer " + other,   "Bearer "};
  const absl::Status expired =
      (*ring)->Authenticate("Bearer " + key.text, kNow + 10'000'000).status();
  EXPECT_EQ(engine::ReasonOf(expired), "KEY_INVALID");
  for (const std::string& text : texts) {
    EXPECT_EQ((*ring)->Authenticate(text, kNow).status(), expired)
        << "nobody learns what is wrong with a key: " << text;
  }
}

TEST(KeyRingTest, TheFileIsFollowed) {
  const TemporaryDirectory folder;
  const std::string path = folder / "keys.json";
  const NewKey first = MakeKey();
  ASSERT_TRUE(Add(path, Entry(first, "acme", Role::kReader)).ok());
  const auto ring = KeyRing::Open(path);
  ASSERT_TRUE(ring.ok()) << ring.status();
  const auto wait_for = [&](const NewKey& key, bool valid) {
    while ((*ring)->Authenticate("Bearer " + key.text, kNow).ok() != valid) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  };
  const NewKey second = MakeKey();
  ASSERT_TRUE(Add(path, Entry(second, "acme", Role::kReader)).ok());
  wait_for(second, true);
  wait_for(first, true);

  // A broken file changes nothing, and neither does a missing one.
  const std::string good = Read(path);
  Write(path, good.substr(0, good.size() / 2));
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  wait_for(first, true);
  std::filesystem::remove(path);
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  wait_for(first, true);

  // Replaced as a whole: the first key is revoked.
  ASSERT_TRUE(Add(path, Entry(second, "acme", Role::kReader)).ok());
  wait_for(first, false);
  wait_for(second, true);
  EXPECT_EQ((*ring)->size(), 1u);
}

TEST(AuditLogTest, LinesAreAppendedAndAMovedFileIsMadeAnew) {
  const TemporaryDirectory folder;
  const std::string path = folder / "audit.jsonl";
  const AuditEvent event = {.event = "begin",
                            .method = "Tenants/DeleteTenant",
                            .resource = "tenants/\"x\"\n",
                            .key_id = "0123",
                            .role = "operator",
                            .peer = "ipv4:127.0.0.1:1",
                            .request_id = "r"};
  {
    const auto log = AuditLog::Open(path);
    ASSERT_TRUE(log.ok()) << log.status();
    ASSERT_TRUE((*log)->Record(event).ok());
  }
  const auto log = AuditLog::Open(path);
  ASSERT_TRUE((*log)->Record(event).ok());
  const std::string lines = Read(path);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2)
      << "one line an event, whatever it holds";
  const nlohmann::json line = nlohmann::json::parse(lines.substr(0, lines.find('\n')));
  EXPECT_EQ(line["method"], "Tenants/DeleteTenant");
  EXPECT_EQ(line["resource"], "tenants/\"x\"\n");
  EXPECT_EQ(line["key"], "0123");
  EXPECT_FALSE(line.contains("code"));

  std::filesystem::rename(path, path + ".1");
  ASSERT_TRUE((*log)->Record(event).ok());
  EXPECT_NE(Read(path), "");
  EXPECT_EQ(Read(path + ".1"), lines);
  EXPECT_EQ(engine::ReasonOf(AuditLog::Open(folder / "no/folder").status()), "AUDIT_LOG_FAILED");
  const auto full = AuditLog::Open("/dev/full");
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(engine::ReasonOf((*full)->Record(event)), "AUDIT_LOG_FAILED");
}

TEST(ListenSecurityTest, LoopbackIsWhatOnlyThisMachineReaches) {
  for (const char* address : {"127.0.0.1:7421", "127.1.2.3:0", "[::1]:7421", "localhost:1"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address :
       {"0.0.0.0:7421", "[::]:7421", ":7421", "10.0.0.1:1", "localhost.example.com:1", "*:1"}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

class TlsFilesTest : public ::testing::Test {
 protected:
  absl::Status Server(const TlsFiles& files) {
    return ServerTls(files, {"certificate", "key", "ca"}).status();
  }
  absl::Status Channel(const TlsFiles& files) {
    return ChannelTls(files, {"certificate", "key", "ca"}, /*system_roots=*/false).status();
  }
  const TemporaryDirectory folder_;
  const testing::Certificates certificates_{folder_.path()};
  const std::string ca_ = certificates_.ca();
  const std::string certificate_ = certificates_.Issue("server").certificate;
  const std::string key_ = certificates_.Issue("server").key;
};

TEST_F(TlsFilesTest, WholeConfigurationsAreTaken) {
  EXPECT_TRUE(Server({}).ok());
  EXPECT_TRUE(Server({certificate_, key_, ""}).ok());
  EXPECT_TRUE(Server({certificate_, key_, ca_}).ok());
  EXPECT_TRUE(Channel({}).ok());
  EXPECT_TRUE(Channel({"", "", ca_}).ok());
  EXPECT_TRUE(Channel({certificate_, key_, ca_}).ok());
}

TEST_F(TlsFilesTest, HalfAndBrokenOnesAreRefusedByName) {
  const std::string garbage = folder_ / "garbage";
  Write(garbage, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
  const std::string other_key = certificates_.Issue("other").key;
  const std::string expired = certificates_.IssueExpired("old").certificate;
  const std::string expired_key = certificates_.IssueExpired("old").key;
  const std::pair<TlsFiles, std::string> cases[] = {
      {{certificate_, "", ""}, "--certificate: needs --key"},
      {{"", key_, ""}, "--key: needs --certificate"},
      {{"", "", ca_}, "--ca: needs --certificate and --key"},
      {{certificate_, other_key, ""}, "is not that of the certificate"},
      {{expired, expired_key, ""}, "has expired"},
      {{garbage, key_, ""}, "--certificate: "},
      {{certificate_, garbage, ""}, "--key: "},
      {{certificate_, key_, garbage}, "--ca: "},
      {{folder_ / "missing", key_, ""}, "cannot be read"}};
  for (const auto& [files, message] : cases) {
    const absl::Status status = Server(files);
    EXPECT_EQ(engine::ReasonOf(status), "FLAG_INVALID") << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  EXPECT_THAT(std::string(Channel({certificate_, key_, ""}).message()),
              HasSubstr("--certificate: needs --ca"));
}

}  // namespace
}  // namespace lectern::services
