// Resource names, the API's side of the engine's ids:
//
//   backups/{backup}
//   groups/{group}
//   tenants/{tenant}
//   tenants/{tenant}/corpora/{corpus}
//   tenants/{tenant}/corpora/{corpus}/{documents|generations|operations|sessions}/{id}
//
// Ids are 1 to 63 characters of [a-z0-9._-] and start with a letter or digit.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "engine/types.h"

namespace lectern::services {

inline constexpr std::string_view kDefaultTenant = "default";
inline constexpr std::string_view kModelName = "models/default";
inline constexpr size_t kMaxIdLength = 63;

enum class Collection { kDocuments, kGenerations, kOperations, kSessions };

// "documents", ...
std::string_view CollectionId(Collection collection);

// Parsing. `field` is the request's field that holds the name: it goes into the error.
//   INVALID_ARGUMENT NAME_INVALID      (metadata: field, expected)
//   NOT_FOUND        TENANT_NOT_FOUND  the name is of another tenant than `tenant`, whether it
//   exists or not
absl::Status ParseTenantName(std::string_view name, std::string_view tenant,
                             std::string_view field);
// The id in a tenant's name. `tenant` empty: any.
absl::StatusOr<std::string> ParseTenantId(std::string_view name, std::string_view tenant,
                                          std::string_view field);
absl::StatusOr<engine::CorpusName> ParseCorpusName(std::string_view name, std::string_view tenant,
                                                   std::string_view field);
// Of any tenant: for who administers all.
absl::StatusOr<engine::CorpusName> ParseAnyCorpusName(std::string_view name,
                                                      std::string_view field);
absl::StatusOr<engine::ResourceName> ParseResourceName(std::string_view name, Collection collection,
                                                       std::string_view tenant,
                                                       std::string_view field);

// The id in "backups/{backup}".
absl::StatusOr<std::string> ParseBackupName(std::string_view name, std::string_view field);
// The group in "groups/{group}".
absl::StatusOr<std::string> ParseGroupName(std::string_view name, std::string_view field);

// INVALID_ARGUMENT ID_INVALID (metadata: field). An empty id is accepted: the server makes one.
absl::Status CheckNewId(std::string_view id, std::string_view field);
bool IsId(std::string_view id);

// Formatting.
std::string TenantName(std::string_view tenant);
std::string BackupName(std::string_view backup);
std::string CorpusResourceName(const engine::CorpusName& name);
std::string FormatResourceName(const engine::ResourceName& name, Collection collection);
// The same of an id within `corpus`; "" of an empty id.
std::string FormatResourceName(const engine::CorpusName& corpus, Collection collection,
                               std::string_view id);

}  // namespace lectern::services
