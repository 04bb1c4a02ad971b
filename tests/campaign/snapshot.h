// Everything that can be read from a data directory, as one number.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lectern::campaign {

// SHA-256 (hex) over every tenant, corpus, document (with its bytes), generation (with its layout,
// its K/V and index keys), session (with its turns and its cache), operation, and what is found by
// prefix hashes. The first error of opening or reading ends it. The directory must not be open; it
// is left as a process that opens and closes it leaves it.
absl::StatusOr<std::string> SnapshotDigest(const std::string& directory);

}  // namespace lectern::campaign
