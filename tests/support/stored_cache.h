// What a data directory's cache holds, as one number to compare.
#pragma once

#include <string>
#include <vector>

namespace lectern::testing {

// Some bytes of what a corpus's current generation has on disk: of the K/V and the index keys of
// every layer but the first. The directory must not be open. Ends the test program on errors.
std::vector<std::string> StoredCacheSamples(const std::string& data_dir,
                                            const std::string& tenant_id,
                                            const std::string& corpus_id);

// The first file below `directory` that holds `bytes`, or "".
std::string FileWith(const std::string& directory, const std::string& bytes);

// SHA-256 (hex) over token count, K/V of every layer and block and index keys of every layer of the
// corpus's current generation, read and verified through storage. The directory must not be open.
// Ends the test program on errors.
std::string StoredCacheDigest(const std::string& data_dir, const std::string& corpus_id);

}  // namespace lectern::testing
