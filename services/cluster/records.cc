#include "services/cluster/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/error/error.h"

namespace lectern::services {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kGroups = "groups/";
constexpr std::string_view kCorpora = "corpora/";
constexpr std::string_view kPurges = "purges/";
constexpr std::string_view kTenants = "tenants/";
constexpr std::string_view kMoves = "moves/";
constexpr std::string_view kHolds = "holds/";
constexpr std::string_view kDrains = "drains/";
constexpr std::string_view kReplicas = "replicas/";

constexpr std::array<std::string_view, 4> kMoveStates = {"running", "done", "failed", "cancelled"};

Json Parse(const std::string& value) {
  Json json = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : Json();
}

std::string Text(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

int64_t Number(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

bool Flag(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() && found->get<bool>();
}

TenantRecord ToTenantRecord(std::string_view id, const Json& json, int64_t revision) {
  TenantRecord record;
  record.tenant.id = id;
  record.tenant.display_name = Text(json, "display_name");
  record.tenant.create_time_us = Number(json, "create_time_us");
  record.tenant.quota = {Number(json, "disk_bytes"), Number(json, "tokens_per_minute"),
                         Number(json, "concurrent_requests"), Number(json, "weight")};
  record.deleted = Flag(json, "deleted");
  record.revision = revision;
  return record;
}

MoveRecord ToMoveRecord(std::string_view key, const Json& json, int64_t revision) {
  MoveRecord record;
  record.name = NameOfTableKey(key);
  record.from = Text(json, "from");
  record.to = Text(json, "to");
  const auto* state = std::find(kMoveStates.begin(), kMoveStates.end(), Text(json, "state"));
  // A state of a newer release is none that anybody here can work on.
  record.state = state == kMoveStates.end() ? MoveState::kFailed
                                            : static_cast<MoveState>(state - kMoveStates.begin());
  record.cancel = Flag(json, "cancel");
  record.bytes_total = Number(json, "bytes_total");
  record.bytes_done = Number(json, "bytes_done");
  record.records_done = Number(json, "records_done");
  record.attempts = Number(json, "attempts");
  if (const int64_t code = Number(json, "code"); code != 0) {
    record.error = engine::Error(static_cast<absl::StatusCode>(code), Text(json, "reason"),
                                 Text(json, "message"));
  }
  record.create_time_us = Number(json, "create_time_us");
  record.end_time_us = Number(json, "end_time_us");
  record.revision = revision;
  return record;
}

// Removes or sets `table[key]`.
template <typename Table, typename Value>
void Set(Table& table, std::string_view key, bool present, Value&& value) {
  if (present) {
    table.insert_or_assign(std::string(key), std::forward<Value>(value));
  } else if (const auto found = table.find(key); found != table.end()) {
    table.erase(found);
  }
}

}  // namespace

RecordKeys::RecordKeys(std::string prefix) : prefix_(std::move(prefix)) {
  if (!prefix_.ends_with('/')) prefix_ += '/';
}

std::string RecordKeys::Group(std::string_view group) const {
  return fmt::format("{}{}{}", prefix_, kGroups, group);
}

std::string RecordKeys::Corpus(const engine::CorpusName& name) const {
  return fmt::format("{}{}{}", prefix_, kCorpora, TableKey(name));
}

std::string RecordKeys::Purge(std::string_view group, const engine::CorpusName& name) const {
  return fmt::format("{}{}{}/{}", prefix_, kPurges, group, TableKey(name));
}

std::string RecordKeys::Tenant(std::string_view tenant) const {
  return fmt::format("{}{}{}", prefix_, kTenants, tenant);
}

std::string RecordKeys::Move(const engine::CorpusName& name) const {
  return fmt::format("{}{}{}", prefix_, kMoves, TableKey(name));
}

std::string RecordKeys::Hold(const engine::CorpusName& name) const {
  return fmt::format("{}{}{}", prefix_, kHolds, TableKey(name));
}

std::string RecordKeys::Replica(const engine::CorpusName& name) const {
  return fmt::format("{}{}{}", prefix_, kReplicas, TableKey(name));
}

std::string RecordKeys::Drain(std::string_view group) const {
  return fmt::format("{}{}{}", prefix_, kDrains, group);
}

std::string ToValue(const Group& group) {
  return Json{{"address", group.address},
              {"fingerprint", group.fingerprint},
              {"version", group.version},
              {"free_bytes", group.free_bytes}}
      .dump();
}

std::string ToValue(const Placement& placement) {
  Json json = {{"group", placement.group}};
  if (placement.deleted) json["deleted"] = true;
  if (!placement.moved_from.empty()) {
    json["moved_from"] = placement.moved_from;
    json["moved_epoch"] = placement.moved_epoch;
  }
  if (!placement.origin.store_id.empty()) {
    json["origin_store"] = placement.origin.store_id;
    json["origin_corpus"] = placement.origin.corpus_uid;
  }
  return json.dump();
}

std::string ToValue(const MoveRecord& record) {
  Json json = {{"from", record.from},
               {"to", record.to},
               {"state", kMoveStates[static_cast<size_t>(record.state)]},
               {"bytes_total", record.bytes_total},
               {"bytes_done", record.bytes_done},
               {"records_done", record.records_done},
               {"attempts", record.attempts},
               {"create_time_us", record.create_time_us},
               {"end_time_us", record.end_time_us}};
  if (record.cancel) json["cancel"] = true;
  if (!record.error.ok()) {
    json["code"] = static_cast<int>(record.error.code());
    json["reason"] = engine::ReasonOf(record.error);
    json["message"] = std::string(record.error.message());
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string ToValue(const ReplicaRecord& record) {
  Json json = {{"group", record.group}, {"ready", record.ready}};
  if (record.ready) {
    json["store"] = record.origin.store_id;
    json["corpus"] = record.origin.corpus_uid;
  }
  return json.dump();
}

std::string ToValue(const TenantRecord& record) {
  if (record.deleted) return Json{{"deleted", true}}.dump();
  return Json{{"display_name", record.tenant.display_name},
              {"create_time_us", record.tenant.create_time_us},
              {"disk_bytes", record.tenant.quota.disk_bytes},
              {"tokens_per_minute", record.tenant.quota.tokens_per_minute},
              {"concurrent_requests", record.tenant.quota.concurrent_requests},
              {"weight", record.tenant.quota.weight}}
      .dump();
}

std::string TableKey(const engine::CorpusName& name) {
  return fmt::format("{}/{}", name.tenant, name.corpus);
}

engine::CorpusName NameOfTableKey(std::string_view key) {
  const size_t slash = key.find('/');
  if (slash == std::string_view::npos) return {};
  return {std::string(key.substr(0, slash)), std::string(key.substr(slash + 1))};
}

void Records::Apply(const RecordKeys& keys, std::string_view key, const std::string* value,
                    int64_t create_revision, int64_t mod_revision, int64_t lease) {
  if (!key.starts_with(keys.prefix())) return;
  std::string_view rest = key.substr(keys.prefix().size());
  const Json json = value == nullptr ? Json() : Parse(*value);
  if (value != nullptr && json.is_null()) return;
  const bool present = value != nullptr;
  const auto take = [&rest](std::string_view kind) {
    if (!rest.starts_with(kind)) return false;
    rest.remove_prefix(kind.size());
    return true;
  };
  if (take(kGroups)) {
    Set(groups, rest, present,
        GroupRecord{{std::string(rest), Text(json, "address"), Text(json, "fingerprint"),
                     Text(json, "version"), Number(json, "free_bytes")},
                    create_revision,
                    lease});
  } else if (take(kCorpora)) {
    Set(corpora, rest, present,
        Placement{Text(json, "group"), mod_revision, Flag(json, "deleted"),
                  Text(json, "moved_from"), Number(json, "moved_epoch"),
                  engine::CorpusOrigin{Text(json, "origin_store"),
                                       static_cast<uint64_t>(Number(json, "origin_corpus"))}});
  } else if (take(kPurges)) {
    Set(purges, rest, present, mod_revision);
  } else if (take(kTenants)) {
    Set(tenants, rest, present, ToTenantRecord(rest, json, mod_revision));
  } else if (take(kMoves)) {
    Set(moves, rest, present, ToMoveRecord(rest, json, mod_revision));
  } else if (take(kReplicas)) {
    Set(replicas, rest, present,
        ReplicaRecord{NameOfTableKey(rest), Text(json, "group"), Flag(json, "ready"),
                      engine::CorpusOrigin{Text(json, "store"),
                                           static_cast<uint64_t>(Number(json, "corpus"))},
                      mod_revision});
  } else if (take(kHolds)) {
    Set(holds, rest, present, create_revision);
  } else if (take(kDrains)) {
    if (present) {
      drains.emplace(rest);
    } else if (const auto found = drains.find(rest); found != drains.end()) {
      drains.erase(found);
    }
  }
}

}  // namespace lectern::services
