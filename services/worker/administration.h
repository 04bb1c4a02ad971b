// Who may administer, as a worker sees it.
#pragma once

#include <absl/status/status.h>

#include "services/rpc/call.h"

namespace lectern::services {

// PERMISSION_DENIED ROLE_INSUFFICIENT. Gateways have looked at the caller's role; a call that bears
// a tenant's name is no administrator's.
absl::Status CheckAdministers(const Caller& caller);

}  // namespace lectern::services
