// Who may call the public API, and what is written down of it: the flags of gateways.
#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "services/security/audit_log.h"
#include "services/security/key_ring.h"

namespace lectern::services {

struct CallerSecurity {
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::unique_ptr<KeyRing> keys;  // null: no keys; everybody is the default tenant
  std::unique_ptr<AuditLog> audit;
};

// From --keys_file, --audit_log and the flags of listen_security.h, for a server on `address`.
absl::StatusOr<CallerSecurity> CallerSecurityFromFlags(const std::string& address);

}  // namespace lectern::services
