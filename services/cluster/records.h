// What is kept in etcd: keys, and values in JSON, so that an operator can read them with etcdctl.
//
//   <prefix>groups/<group>                     under the group's lease: address, free_bytes, ...
//   <prefix>corpora/<tenant>/<corpus>          {"group": g}, or {"group": g, "deleted": true}
//   <prefix>purges/<group>/<tenant>/<corpus>   {}: the group must delete what it has of this name
//   <prefix>tenants/<tenant>                   display name, quota, or {"deleted": true}
//
// A placement's epoch is the revision at which its record was written.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "engine/types.h"
#include "services/cluster/directory.h"

namespace lectern::services {

class RecordKeys {
 public:
  // `prefix` without the slash at its end is given one.
  explicit RecordKeys(std::string prefix);
  const std::string& prefix() const { return prefix_; }
  std::string Group(std::string_view group) const;
  std::string Corpus(const engine::CorpusName& name) const;
  std::string Purge(std::string_view group, const engine::CorpusName& name) const;
  std::string Tenant(std::string_view tenant) const;

 private:
  std::string prefix_;
};

std::string ToValue(const Group& group);
std::string ToValue(const Placement& placement);

struct TenantRecord {
  engine::Tenant tenant;  // without usage
  bool deleted = false;
  int64_t revision = 0;
};
std::string ToValue(const TenantRecord& record);

// "tenant/corpus", by which tables are ordered.
std::string TableKey(const engine::CorpusName& name);

// All records, as one process knows them. Not thread-safe.
struct Records {
  struct GroupRecord {
    services::Group group;
    int64_t create_revision = 0;
    int64_t lease = 0;
  };
  int64_t revision = 0;
  std::map<std::string, GroupRecord, std::less<>> groups;
  std::map<std::string, Placement, std::less<>> corpora;  // by TableKey
  std::map<std::string, int64_t, std::less<>> purges;     // "group/tenant/corpus" -> revision
  std::map<std::string, TenantRecord, std::less<>> tenants;

  // A record of that key as it is now, or without `value`: that it is gone. Keys and values that
  // are none of ours are passed over: a newer release may have more kinds.
  void Apply(const RecordKeys& keys, std::string_view key, const std::string* value,
             int64_t create_revision, int64_t mod_revision, int64_t lease);
};

// The name in a TableKey.
engine::CorpusName NameOfTableKey(std::string_view key);

}  // namespace lectern::services
