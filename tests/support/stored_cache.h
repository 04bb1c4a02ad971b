// What a data directory's cache holds, as one number to compare.
#pragma once

#include <string>

namespace lectern::testing {

// SHA-256 (hex) over token count, K/V of every layer and block and index keys of every layer of the
// corpus's current generation, read and verified through storage. The directory must not be open.
// Ends the test program on errors.
std::string StoredCacheDigest(const std::string& data_dir, const std::string& corpus_id);

}  // namespace lectern::testing
