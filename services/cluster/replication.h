// The second copies of corpora, as those see them who answer calls.
//
// With --replicas=2 every corpus has a *replica* on another group than its owner's. What calls
// about the corpus and its documents change (IsOnReplica) is durable on both before it is
// acknowledged; caches, sessions and turns follow by themselves, as soon as they can. When the
// owner is lost, the replica becomes the corpus: with every document that was acknowledged and none
// that was deleted, with the caches and turns that had followed.
#pragma once

#include <absl/status/status.h>

#include <chrono>
#include <cstdint>
#include <functional>

#include "engine/types.h"
#include "services/rpc/call.h"

namespace lectern::services {

class Replication {
 public:
  using Done = std::function<void(const absl::Status&)>;

  virtual ~Replication() = default;

  // Under a new lease, before anything is answered: what is here, and what is not any more.
  virtual absl::Status AgreeOnJoining() = 0;
  // Of a corpus that is placed on this group. UNAVAILABLE CORPUS_MOVING: its replica here is just
  // becoming the corpus; CORPUS_LOST: this group has lost what it had of it, and the replica is
  // about to take its place.
  virtual absl::Status IsHere(const engine::CorpusName& name) const = 0;

  // Before a change. UNAVAILABLE REPLICA_UNREACHABLE: it could not be acknowledged, and callers are
  // not to wait.
  virtual absl::Status MayChange(const engine::CorpusName& name) const = 0;
  // Something may have changed that the replica is to have.
  virtual void Changed(const engine::CorpusName& name) = 0;
  // Calls `done`, from any thread, when whatever was changed before this call is on the replica, or
  // with UNAVAILABLE REPLICA_UNREACHABLE when it is not at `deadline`, or as late as callers are to
  // wait.
  virtual void Settle(const Caller& caller, std::chrono::system_clock::time_point deadline,
                      Done done) = 0;

  // Worker.SyncReplica, at the group that has the replica.
  virtual void Sync(const Caller& caller, int64_t revision, Done done) = 0;
};

}  // namespace lectern::services
