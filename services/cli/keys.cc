#include <absl/flags/declare.h>
#include <absl/flags/flag.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "engine/error/error.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/expiry_flags.h"
#include "services/cli/output.h"
#include "services/rpc/reason.h"
#include "services/security/keys_file.h"

ABSL_DECLARE_FLAG(std::string, keys_file);
ABSL_FLAG(std::string, role, "reader",
          "create: what the key may do: reader, writer, admin or operator");
ABSL_FLAG(std::string, note, "", "create: what the key is for, shown in lists");

namespace lectern::services {
namespace {

constexpr size_t kMaxNoteLength = 200;

std::string FormatTime(int64_t time_us) {
  if (time_us == 0) return "never";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMicros(time_us), absl::UTCTimeZone());
}

int Explain(const absl::Status& status) {
  fmt::print(stderr, "lectern keys: {} [{}]\n", std::string(status.message()),
             engine::ReasonOf(status));
  return kExitLocal;
}

int Create(const std::string& path) {
  const std::optional<Role> role = ParseRole(absl::GetFlag(FLAGS_role));
  if (!role) return UsageMistake(kKeysCommand, "--role is reader, writer, admin or operator");
  const bool is_operator = *role == Role::kOperator;
  if (is_operator && !absl::GetFlag(FLAGS_tenant).empty()) {
    return UsageMistake(kKeysCommand, "an operator is of no tenant: leave --tenant out");
  }
  if (!is_operator && !IsId(Tenant())) {
    return UsageMistake(kKeysCommand, fmt::format("\"{}\" is no tenant's id", Tenant()));
  }
  if (absl::GetFlag(FLAGS_note).size() > kMaxNoteLength) {
    return UsageMistake(kKeysCommand, fmt::format("--note: at most {} bytes", kMaxNoteLength));
  }
  const NewKey key = MakeKey();
  KeyEntry entry = {.id = key.id,
                    .tenant = is_operator ? "" : Tenant(),
                    .role = *role,
                    .hash = key.hash,
                    .create_time_us = absl::ToUnixMicros(absl::Now()),
                    .note = absl::GetFlag(FLAGS_note)};
  google::protobuf::Duration ttl;
  if (TtlFromFlag(ttl)) entry.expire_time_us = entry.create_time_us + ttl.seconds() * 1'000'000;
  const absl::Status status = ChangeKeysFile(path, [&](std::vector<KeyEntry>& keys) {
    keys.push_back(entry);
    return absl::OkStatus();
  });
  if (!status.ok()) return Explain(status);
  // The key alone on standard output, for a pipe into a secret store.
  fmt::print(stderr, "key {} of {} may {}; it is shown this once:\n", entry.id,
             is_operator ? "no tenant" : "tenant " + entry.tenant,
             is_operator ? "administer tenants" : fmt::format("act as {}", RoleName(*role)));
  fmt::print("{}\n", key.text);
  return kExitOk;
}

int List(const std::string& path) {
  const absl::StatusOr<std::vector<KeyEntry>> keys = ReadKeysFile(path);
  if (!keys.ok()) return Explain(keys.status());
  if (absl::GetFlag(FLAGS_json)) {
    PrintJson(Json::parse(FormatKeys(*keys))["keys"]);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const KeyEntry& key : *keys) {
    rows.push_back({key.id, key.tenant.empty() ? "-" : key.tenant, std::string(RoleName(key.role)),
                    FormatTime(key.create_time_us), FormatTime(key.expire_time_us),
                    Printable(key.note)});
  }
  PrintTable({"KEY", "TENANT", "ROLE", "CREATED", "EXPIRES", "NOTE"}, rows);
  return kExitOk;
}

int Revoke(const std::string& path, const std::vector<std::string>& ids) {
  const absl::Status status = ChangeKeysFile(path, [&](std::vector<KeyEntry>& keys) {
    for (const std::string& id : ids) {
      if (std::erase_if(keys, [&](const KeyEntry& key) { return key.id == id; }) == 0) {
        return engine::Error(absl::StatusCode::kNotFound, reason::kKeyInvalid,
                             fmt::format("there is no key {}; nothing was revoked", id));
      }
    }
    return absl::OkStatus();
  });
  return status.ok() ? kExitOk : Explain(status);
}

int Run(const std::vector<std::string>& arguments) {
  const std::string path = absl::GetFlag(FLAGS_keys_file);
  const std::string verb = arguments.empty() ? "list" : arguments[0];
  if (path.empty()) return UsageMistake(kKeysCommand, "name the file with --keys_file");
  if (verb == "list" && arguments.size() <= 1) return List(path);
  if (verb == "create" && arguments.size() == 1) return Create(path);
  if (verb == "revoke" && arguments.size() > 1) {
    return Revoke(path, {arguments.begin() + 1, arguments.end()});
  }
  return UsageMistake(kKeysCommand, "say create, list, or revoke with the keys' ids");
}

}  // namespace

const Command kKeysCommand = {
    .name = "keys",
    .arguments = "create | list | revoke KEY... --keys_file=FILE",
    .summary = "Makes, lists and revokes API keys in a server's keys file.",
    .details =
        "Works on the file itself; servers that were started with it notice within a second.\n"
        "`create` prints the key once. The file holds only its hash.",
    .flags = {"keys_file", "tenant", "role", "ttl", "note", "json"},
    .run = Run,
};

}  // namespace lectern::services
