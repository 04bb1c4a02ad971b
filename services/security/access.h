// Who may do what: a role per key, a requirement per method. The one table; what a role means to
// users is written in proto/lectern/v1/corpora.proto.
#pragma once

#include <optional>
#include <string_view>

namespace lectern::services {

enum class Role {
  kReader,
  kWriter,    // and all that readers may
  kAdmin,     // and all that writers may
  kOperator,  // of no tenant: administers tenants and the server, and touches nothing of theirs
};

std::string_view RoleName(Role role);  // "reader", ...
std::optional<Role> ParseRole(std::string_view name);

enum class Access {
  kAnyone,  // with a key
  kReader,
  kWriter,
  kAdmin,
  kOperator,
  kReaderOrOperator,  // a tenant reads itself, an operator any
};

// What the public method ("Corpora/GetCorpus") needs. A method that is not in the table needs an
// operator, until somebody has thought about it (a test finds it).
Access AccessOf(std::string_view method);
bool IsListed(std::string_view method);

bool Allows(Role role, Access access);
// For messages: "writer", "reader or operator".
std::string_view AccessName(Access access);

// Acts of administration, which the audit log records.
bool IsAudited(std::string_view method);

}  // namespace lectern::services
