#include "services/rpc/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

constexpr std::string_view kIdRule =
    "1 to 63 characters of [a-z0-9._-], starting with a letter or digit";
constexpr std::string_view kTenantPrefix = "tenants/";
// Names are echoed in errors only up to this many bytes.
constexpr size_t kEchoLimit = 200;

std::vector<std::string_view> SplitBySlash(std::string_view name) {
  std::vector<std::string_view> segments;
  while (true) {
    const size_t slash = name.find('/');
    segments.push_back(name.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    name.remove_prefix(slash + 1);
  }
}

absl::Status NameInvalid(std::string_view name, std::string_view field, std::string_view expected) {
  return engine::InvalidArgument(
      reason::kNameInvalid,
      fmt::format("{}: \"{}\" is not of the form {}; ids are {}", field, name.substr(0, kEchoLimit),
                  expected, kIdRule),
      {{"field", std::string(field)}, {"expected", std::string(expected)}});
}

// Whether `name` has the segments of `pattern`, where segments in braces stand for ids.
bool Matches(const std::vector<std::string_view>& name,
             const std::vector<std::string_view>& pattern) {
  return std::equal(name.begin(), name.end(), pattern.begin(), pattern.end(),
                    [](std::string_view segment, std::string_view expected) {
                      return expected.starts_with('{') ? IsId(segment) : segment == expected;
                    });
}

absl::StatusOr<std::vector<std::string_view>> Parse(std::string_view name, std::string_view pattern,
                                                    std::string_view tenant,
                                                    std::string_view field) {
  const std::vector<std::string_view> segments = SplitBySlash(name);
  if (!Matches(segments, SplitBySlash(pattern))) return NameInvalid(name, field, pattern);
  if (segments[1] != tenant) {
    return engine::Error(
        absl::StatusCode::kNotFound, reason::kTenantNotFound,
        fmt::format("{}: there is no tenant \"{}\" for this caller; its tenant is \"{}\"", field,
                    segments[1], tenant),
        {{"field", std::string(field)}, {"tenant", std::string(segments[1])}});
  }
  return segments;
}

}  // namespace

std::string_view CollectionId(Collection collection) {
  switch (collection) {
    case Collection::kDocuments:
      return "documents";
    case Collection::kGenerations:
      return "generations";
    case Collection::kOperations:
      return "operations";
    case Collection::kSessions:
      return "sessions";
  }
  return "";
}

bool IsId(std::string_view id) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !id.empty() && id.size() <= kMaxIdLength && alphanumeric(id.front()) &&
         std::all_of(id.begin(), id.end(),
                     [&](char c) { return alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

absl::Status CheckNewId(std::string_view id, std::string_view field) {
  if (id.empty() || IsId(id)) return absl::OkStatus();
  return engine::InvalidArgument(
      reason::kIdInvalid,
      fmt::format("{}: \"{}\" is not an id: {}", field, id.substr(0, kEchoLimit), kIdRule),
      {{"field", std::string(field)}});
}

absl::StatusOr<std::string> ParseBackupName(std::string_view name, std::string_view field) {
  const std::vector<std::string_view> segments = SplitBySlash(name);
  constexpr std::string_view kPattern = "backups/{backup}";
  if (!Matches(segments, SplitBySlash(kPattern))) return NameInvalid(name, field, kPattern);
  return std::string(segments[1]);
}

absl::StatusOr<std::string> ParseGroupName(std::string_view name, std::string_view field) {
  const std::vector<std::string_view> segments = SplitBySlash(name);
  constexpr std::string_view kPattern = "groups/{group}";
  if (!Matches(segments, SplitBySlash(kPattern))) return NameInvalid(name, field, kPattern);
  return std::string(segments[1]);
}

absl::StatusOr<engine::CorpusName> ParseAnyCorpusName(std::string_view name,
                                                      std::string_view field) {
  const std::vector<std::string_view> segments = SplitBySlash(name);
  constexpr std::string_view kPattern = "tenants/{tenant}/corpora/{corpus}";
  if (!Matches(segments, SplitBySlash(kPattern))) return NameInvalid(name, field, kPattern);
  return engine::CorpusName{std::string(segments[1]), std::string(segments[3])};
}

absl::Status ParseTenantName(std::string_view name, std::string_view tenant,
                             std::string_view field) {
  return Parse(name, "tenants/{tenant}", tenant, field).status();
}

absl::StatusOr<std::string> ParseTenantId(std::string_view name, std::string_view tenant,
                                          std::string_view field) {
  if (tenant.empty() && name.starts_with(kTenantPrefix)) tenant = name.substr(kTenantPrefix.size());
  LECTERN_ASSIGN_OR_RETURN(const auto segments, Parse(name, "tenants/{tenant}", tenant, field));
  return std::string(segments[1]);
}

absl::StatusOr<engine::CorpusName> ParseCorpusName(std::string_view name, std::string_view tenant,
                                                   std::string_view field) {
  LECTERN_ASSIGN_OR_RETURN(const auto segments,
                           Parse(name, "tenants/{tenant}/corpora/{corpus}", tenant, field));
  return engine::CorpusName{std::string(segments[1]), std::string(segments[3])};
}

absl::StatusOr<engine::ResourceName> ParseResourceName(std::string_view name, Collection collection,
                                                       std::string_view tenant,
                                                       std::string_view field) {
  const std::string_view collection_id = CollectionId(collection);
  const std::string pattern =
      fmt::format("tenants/{{tenant}}/corpora/{{corpus}}/{}/{{{}}}", collection_id,
                  collection_id.substr(0, collection_id.size() - 1));
  LECTERN_ASSIGN_OR_RETURN(const auto segments, Parse(name, pattern, tenant, field));
  return engine::ResourceName{
      engine::CorpusName{std::string(segments[1]), std::string(segments[3])},
      std::string(segments[5])};
}

std::string BackupName(std::string_view backup) { return fmt::format("backups/{}", backup); }

std::string TenantName(std::string_view tenant) { return fmt::format("tenants/{}", tenant); }

std::string CorpusResourceName(const engine::CorpusName& name) {
  return fmt::format("tenants/{}/corpora/{}", name.tenant, name.corpus);
}

std::string FormatResourceName(const engine::ResourceName& name, Collection collection) {
  return FormatResourceName(name.corpus, collection, name.id);
}

std::string FormatResourceName(const engine::CorpusName& corpus, Collection collection,
                               std::string_view id) {
  if (id.empty()) return "";
  return fmt::format("{}/{}/{}", CorpusResourceName(corpus), CollectionId(collection), id);
}

}  // namespace lectern::services
