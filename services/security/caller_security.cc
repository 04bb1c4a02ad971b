#include "services/security/caller_security.h"

#include <absl/flags/flag.h>

#include "engine/error/status_macros.h"
#include "services/security/listen_security.h"

ABSL_FLAG(
    std::string, keys_file, "",
    "API keys, made with `lectern keys`: every call needs one then. Read again when it changes. "
    "Without it everybody who can connect is the tenant `default`");
ABSL_FLAG(std::string, audit_log, "",
          "file that acts of administration are appended to, one JSON object a line; without it "
          "they go to the log");

namespace lectern::services {

absl::StatusOr<CallerSecurity> CallerSecurityFromFlags(const std::string& address) {
  CallerSecurity security;
  const std::string keys_file = absl::GetFlag(FLAGS_keys_file);
  if (!keys_file.empty()) {
    LECTERN_ASSIGN_OR_RETURN(security.keys, KeyRing::Open(keys_file));
  }
  LECTERN_ASSIGN_OR_RETURN(security.credentials,
                           CredentialsFromFlags(address, !keys_file.empty(), "--keys_file"));
  LECTERN_ASSIGN_OR_RETURN(security.audit, AuditLog::Open(absl::GetFlag(FLAGS_audit_log)));
  return security;
}

}  // namespace lectern::services
