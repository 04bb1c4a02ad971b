// Who is a member of the cluster and where corpora are: one interface, and two implementations that
// pass the same tests. LocalDirectory is one worker, fixed by flags, that holds whatever exists;
// EtcdDirectory keeps records in etcd, and any number of gateways and workers read them.
//
// A *group* is a worker with its disk. A *placement* says which group a corpus is on and since
// when: its *epoch* grows with every placement, removal and new placement of a name, so that
// whoever acts on an old one is found out. Thread-safe.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/transfer.h"
#include "engine/types.h"

namespace lectern::services {

struct Group {
  std::string name;
  std::string address;      // of its worker API
  std::string fingerprint;  // of its model, hex
  std::string version;      // of its program
  int64_t free_bytes = 0;
};

struct Placement {
  std::string group;
  int64_t epoch = 0;  // 0: by rule, for ever
  bool deleted = false;
  // Where it came from by a move, and the epoch that it had there: answers that began there under
  // that epoch are as right as those of its new owner.
  std::string moved_from = {};
  int64_t moved_epoch = 0;
  // Where it is since its owner was lost: the copy that the group has of this corpus is the corpus.
  engine::CorpusOrigin origin = {};
};

class Directory {
 public:
  virtual ~Directory() = default;

  // Whether names are placed by records. If not, they are placed by rule (there is one group),
  // workers need no epochs, and the worker's own store says what exists.
  virtual bool keeps_records() const = 0;

  // ---- what is known here, without asking anybody ----
  // The groups that are alive, by name.
  virtual std::vector<Group> Groups() const = 0;
  virtual std::optional<Placement> Known(const engine::CorpusName& name) const = 0;
  // The groups that hold corpora of the tenant, alive or not, by name.
  virtual std::vector<std::string> GroupsOf(std::string_view tenant) const = 0;
  // Whether what is known here keeps up with the truth.
  virtual bool Reachable() const = 0;

  // ---- the truth; these may block for seconds ----
  // Errors of all of them: UNAVAILABLE CLUSTER_STORE_UNREACHABLE and others of EtcdClient.
  // NOT_FOUND CORPUS_NOT_FOUND: never placed, or deleted.
  virtual absl::StatusOr<Placement> Find(const engine::CorpusName& name) = 0;
  // Places the name, or says where it is already. UNAVAILABLE NO_GROUP: nobody is there to take it.
  virtual absl::StatusOr<Placement> Place(const engine::CorpusName& name) = 0;
  // Takes the name away from its group and returns when the group has confirmed that nothing of it
  // is left, or cannot answer for it any more because its lease has ended (then it deletes what it
  // has before it answers again). NOT_FOUND CORPUS_NOT_FOUND; UNAVAILABLE GROUP_UNREACHABLE: the
  // removal is recorded and will happen, but neither was known at `deadline`.
  virtual absl::Status Remove(const engine::CorpusName& name,
                              std::chrono::steady_clock::time_point deadline) = 0;
};

// What Find and Remove answer for a name without a placement.
absl::Status CorpusNotPlaced(const engine::CorpusName& name);

}  // namespace lectern::services
