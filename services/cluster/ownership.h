// Whether a worker may answer a request: at its beginning, and again before anything of the answer
// leaves. A worker outside clusters has none, and answers everything.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <shared_mutex>
#include <string_view>

#include "services/cluster/corpus_gate.h"
#include "services/cluster/replication.h"
#include "services/rpc/call.h"

namespace lectern::services {

class Ownership {
 public:
  virtual ~Ownership() = default;

  // Before MayBegin, of a request about a corpus; what it returns is kept until the request has
  // ended. `changes`: it may change the corpus. UNAVAILABLE CORPUS_MOVING: such requests are
  // refused now.
  virtual absl::StatusOr<CorpusGate::Pass> Enter(const Caller& caller, bool changes) = 0;
  // UNAVAILABLE LEASE_EXPIRED: the lease may have ended, or what happened meanwhile is not done
  // yet. UNAVAILABLE NOT_OWNER: the request is about a corpus that is not this group's, or names
  // another epoch or none. May ask the store: not for threads that must not wait.
  virtual absl::Status MayBegin(const Caller& caller, bool of_corpus) = 0;
  // The same, from what is known here.
  virtual absl::Status MayEnd(const Caller& caller, bool of_corpus) const = 0;

  // For the last round of a move (worker.proto, ExportCorpus): waits for the changes that are in
  // progress, refuses others until the move is decided, and returns the revision of the record that
  // says so. UNAVAILABLE CORPUS_CHANGED: they did not end in time; errors of EtcdDirectory::Hold.
  virtual absl::StatusOr<int64_t> HoldChanges(const Caller& caller) = 0;

  // Null where corpora have no second copies.
  virtual Replication* replication() { return nullptr; }

  // Whoever makes a corpus holds this, shared, from MayBegin until it is made; whoever deletes one
  // because the cluster says so holds it alone. Otherwise one that was deleted while it was being
  // made could be left over.
  virtual std::shared_mutex& names() = 0;
};

// Whether a method of the worker API ("Worker/GetCorpus") is about one corpus. The others are about
// all that the worker has.
bool IsOfCorpus(std::string_view method);
// Whether one that is may change it. (Ask is not in question: it depends on whether it is of a
// session.)
bool ChangesCorpus(std::string_view method);
// Whether what it has changed is on the replica before it is acknowledged.
bool IsOnReplica(std::string_view method);

}  // namespace lectern::services
