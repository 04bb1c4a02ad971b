// The names of generations and operations: g12, op7. The number is the uid in storage or, where a
// corpus came from another store, the one it had there, so that a move changes no name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "storage/catalog.h"

namespace lectern::engine {

// `prefix`: "g" or "op". Errors are storage's, with reasons.
absl::StatusOr<std::string> PublicName(const storage::Catalog& catalog, std::string_view prefix,
                                       uint64_t uid);
// The uid behind a name; 0 if nothing can have it. Whether there is such an object, of that corpus,
// is for the caller to see.
absl::StatusOr<uint64_t> FindPublicName(const storage::Catalog& catalog, std::string_view prefix,
                                        uint64_t corpus_uid, std::string_view name);

}  // namespace lectern::engine
