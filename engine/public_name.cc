#include "engine/public_name.h"

#include "engine/names.h"

namespace lectern::engine {

absl::StatusOr<std::string> PublicName(const storage::Catalog& catalog, std::string_view prefix,
                                       uint64_t uid) {
  absl::StatusOr<uint64_t> number = catalog.PublicNumber(uid);
  if (!number.ok()) return WithReason(number.status());
  return UidName(prefix, *number);
}

absl::StatusOr<uint64_t> FindPublicName(const storage::Catalog& catalog, std::string_view prefix,
                                        uint64_t corpus_uid, std::string_view name) {
  const uint64_t number = ParseUidName(prefix, name);
  if (number == 0) return 0;
  absl::StatusOr<uint64_t> uid = catalog.FindByNumber(corpus_uid, number);
  if (absl::IsNotFound(uid.status())) return 0;
  if (!uid.ok()) return WithReason(uid.status());
  return *uid;
}

}  // namespace lectern::engine
