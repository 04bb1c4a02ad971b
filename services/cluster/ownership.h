// Whether a worker may answer a request: at its beginning, and again before anything of the answer
// leaves. A worker outside clusters has none, and answers everything.
#pragma once

#include <absl/status/status.h>

#include <shared_mutex>
#include <string_view>

#include "services/rpc/call.h"

namespace lectern::services {

class Ownership {
 public:
  virtual ~Ownership() = default;

  // UNAVAILABLE LEASE_EXPIRED: the lease may have ended, or what happened meanwhile is not done
  // yet. UNAVAILABLE NOT_OWNER: the request is about a corpus that is not this group's, or names
  // another epoch or none. May ask the store: not for threads that must not wait.
  virtual absl::Status MayBegin(const Caller& caller, bool of_corpus) = 0;
  // The same, from what is known here.
  virtual absl::Status MayEnd(const Caller& caller, bool of_corpus) const = 0;

  // Whoever makes a corpus holds this, shared, from MayBegin until it is made; whoever deletes one
  // because the cluster says so holds it alone. Otherwise one that was deleted while it was being
  // made could be left over.
  virtual std::shared_mutex& names() = 0;
};

// Whether a method of the worker API ("Worker/GetCorpus") is about one corpus. The others are about
// all that the worker has.
bool IsOfCorpus(std::string_view method);

}  // namespace lectern::services
