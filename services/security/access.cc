#include "services/security/access.h"

#include <algorithm>
#include <array>

namespace lectern::services {
namespace {

struct Rule {
  std::string_view method;
  Access access;
  bool audited = false;
};

constexpr std::array kRules = {
    Rule{"Answers/Ask", Access::kReader},
    Rule{"Answers/CountTokens", Access::kReader},
    Rule{"Answers/Retrieve", Access::kReader},
    // A backup holds all tenants.
    Rule{"Backups/CancelBackup", Access::kOperator, true},
    Rule{"Backups/CreateBackup", Access::kOperator, true},
    Rule{"Backups/GetBackup", Access::kOperator},
    Rule{"Backups/ListBackups", Access::kOperator},
    // Where corpora lie is the business of who runs the machines.
    Rule{"Cluster/CancelMove", Access::kOperator, true},
    Rule{"Cluster/DrainGroup", Access::kOperator, true},
    Rule{"Cluster/GetMove", Access::kOperator},
    Rule{"Cluster/ListGroups", Access::kOperator},
    Rule{"Cluster/ListMoves", Access::kOperator},
    Rule{"Cluster/MoveCorpus", Access::kOperator, true},
    Rule{"Cluster/ResumeGroup", Access::kOperator, true},
    Rule{"Corpora/CreateCorpus", Access::kWriter},
    Rule{"Corpora/DeleteCorpus", Access::kAdmin, true},
    Rule{"Corpora/GetCorpus", Access::kReader},
    Rule{"Corpora/GetGeneration", Access::kReader},
    Rule{"Corpora/IngestCorpus", Access::kWriter},
    Rule{"Corpora/ListCorpora", Access::kReader},
    Rule{"Corpora/ListGenerations", Access::kReader},
    Rule{"Corpora/RebuildCorpus", Access::kWriter},
    Rule{"Corpora/UpdateCorpus", Access::kWriter},
    Rule{"Documents/DeleteDocument", Access::kWriter},
    Rule{"Documents/GetDocument", Access::kReader},
    Rule{"Documents/ListDocuments", Access::kReader},
    Rule{"Documents/UploadDocument", Access::kWriter},
    Rule{"Models/GetModel", Access::kAnyone},
    // Counters of the whole server would tell one tenant what the others do.
    Rule{"Models/GetStats", Access::kOperator},
    Rule{"Operations/CancelOperation", Access::kWriter},
    Rule{"Operations/GetOperation", Access::kReader},
    Rule{"Operations/ListOperations", Access::kReader},
    Rule{"Operations/WaitOperation", Access::kReader},
    // A conversation is the reader's own business; ending one may take it from another reader.
    Rule{"Sessions/CreateSession", Access::kReader},
    Rule{"Sessions/DeleteSession", Access::kWriter},
    Rule{"Sessions/ForkSession", Access::kReader},
    Rule{"Sessions/GetSession", Access::kReader},
    Rule{"Sessions/ListSessions", Access::kReader},
    Rule{"Sessions/ListTurns", Access::kReader},
    Rule{"Tenants/CreateTenant", Access::kOperator, true},
    Rule{"Tenants/DeleteTenant", Access::kOperator, true},
    Rule{"Tenants/GetTenant", Access::kReaderOrOperator},
    Rule{"Tenants/ListTenants", Access::kOperator},
    Rule{"Tenants/UpdateTenant", Access::kOperator, true},
};

const Rule* Find(std::string_view method) {
  const auto* found = std::find_if(kRules.begin(), kRules.end(),
                                   [&](const Rule& rule) { return rule.method == method; });
  return found == kRules.end() ? nullptr : found;
}

constexpr std::array<std::string_view, 4> kRoleNames = {"reader", "writer", "admin", "operator"};

}  // namespace

std::string_view RoleName(Role role) { return kRoleNames[static_cast<size_t>(role)]; }

std::optional<Role> ParseRole(std::string_view name) {
  const auto* found = std::find(kRoleNames.begin(), kRoleNames.end(), name);
  if (found == kRoleNames.end()) return std::nullopt;
  return static_cast<Role>(found - kRoleNames.begin());
}

Access AccessOf(std::string_view method) {
  const Rule* rule = Find(method);
  return rule == nullptr ? Access::kOperator : rule->access;
}

bool IsListed(std::string_view method) { return Find(method) != nullptr; }

bool IsAudited(std::string_view method) {
  const Rule* rule = Find(method);
  return rule != nullptr && rule->audited;
}

bool Allows(Role role, Access access) {
  const bool is_operator = role == Role::kOperator;
  switch (access) {
    case Access::kAnyone:
    case Access::kReaderOrOperator:
      return true;
    case Access::kReader:
      return !is_operator;
    case Access::kWriter:
      return role == Role::kWriter || role == Role::kAdmin;
    case Access::kAdmin:
      return role == Role::kAdmin;
    case Access::kOperator:
      return is_operator;
  }
  return false;
}

std::string_view AccessName(Access access) {
  switch (access) {
    case Access::kAnyone:
      return "any";
    case Access::kReader:
      return "reader";
    case Access::kWriter:
      return "writer";
    case Access::kAdmin:
      return "admin";
    case Access::kOperator:
      return "operator";
    case Access::kReaderOrOperator:
      return "reader or operator";
  }
  return "";
}

}  // namespace lectern::services
