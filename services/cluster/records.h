// What is kept in etcd: keys, and values in JSON, so that an operator can read them with etcdctl.
//
//   <prefix>groups/<group>                     under the group's lease: address, free_bytes, ...
//   <prefix>corpora/<tenant>/<corpus>          {"group": g}, or {"group": g, "deleted": true}; of
//   one
//                                              that was moved also moved_from and moved_epoch
//   <prefix>purges/<group>/<tenant>/<corpus>   {}: the group must delete what it has of this name
//   <prefix>tenants/<tenant>                   display name, quota, or {"deleted": true}
//   <prefix>moves/<tenant>/<corpus>            from, to, state, how far it is, why it ended; under
//   a
//                                              lease of a day once it has ended
//   <prefix>holds/<tenant>/<corpus>            under the lease of its group: {"group": g}, which
//                                              refuses changes of the corpus until this is gone
//   <prefix>replicas/<tenant>/<corpus>         {"group": g, "ready": true, "store": s, "corpus":
//   u}: g
//                                              pulls the corpus from its owner; ready: g has all
//                                              documents that were acknowledged, as corpus u of
//                                              the owner's store s
//   <prefix>drains/<group>                     {}: nothing is placed there, and all of it moves
//   away
//
// A placement that came about because the owner was lost also has origin_store and origin_corpus:
// the group's replica of that corpus is the corpus from then on.
//
// A placement's epoch is the revision at which its record was written.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "engine/transfer.h"
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
  std::string Move(const engine::CorpusName& name) const;
  std::string Hold(const engine::CorpusName& name) const;
  std::string Replica(const engine::CorpusName& name) const;
  std::string Drain(std::string_view group) const;

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

enum class MoveState { kRunning, kDone, kFailed, kCancelled };

// A corpus on its way to another group, or the outcome.
struct MoveRecord {
  engine::CorpusName name;
  std::string from;
  std::string to;
  MoveState state = MoveState::kRunning;
  bool cancel = false;  // it shall end
  int64_t bytes_total = 0;
  int64_t bytes_done = 0;
  int64_t records_done = 0;
  int64_t attempts = 0;
  absl::Status error;  // with a reason: of the end, or of the last attempt
  int64_t create_time_us = 0;
  int64_t end_time_us = 0;
  int64_t revision = 0;
};
std::string ToValue(const MoveRecord& record);

// Which group has the second copy of a corpus.
struct ReplicaRecord {
  engine::CorpusName name;
  std::string group;
  bool ready = false;
  engine::CorpusOrigin origin;  // once it is ready
  int64_t revision = 0;
};
std::string ToValue(const ReplicaRecord& record);

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
  std::map<std::string, MoveRecord, std::less<>> moves;        // by TableKey
  std::map<std::string, ReplicaRecord, std::less<>> replicas;  // by TableKey
  std::map<std::string, int64_t, std::less<>> holds;  // by TableKey -> revision at which it began
  std::set<std::string, std::less<>> drains;          // groups

  // A record of that key as it is now, or without `value`: that it is gone. Keys and values that
  // are none of ours are passed over: a newer release may have more kinds.
  void Apply(const RecordKeys& keys, std::string_view key, const std::string* value,
             int64_t create_revision, int64_t mod_revision, int64_t lease);
};

// The name in a TableKey.
engine::CorpusName NameOfTableKey(std::string_view key);

}  // namespace lectern::services
