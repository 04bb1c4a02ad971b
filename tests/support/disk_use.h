// What a directory takes on disk, measured from outside.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace lectern::testing {

// Bytes of the blocks that the files below `directory` take, each file once however many names it
// has. Files may come and go meanwhile.
inline int64_t DiskUse(const std::string& directory) {
  constexpr int64_t kStatBlock = 512;
  std::map<ino_t, int64_t> files;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    struct stat file;
    if (lstat(it->path().c_str(), &file) == 0 && S_ISREG(file.st_mode)) {
      files[file.st_ino] = file.st_blocks * kStatBlock;
    }
  }
  int64_t bytes = 0;
  for (const auto& [inode, size] : files) bytes += size;
  return bytes;
}

}  // namespace lectern::testing
