// A file system whose write errors RocksDB recovers from when asked to. As packaged, RocksDB takes
// a failed write of the log (EIO, EDQUOT) for fatal until it is opened again, and after ENOSPC
// polls every five seconds. It may resume because resuming writes what memory holds to new files
// and trusts none that failed. Internal to storage.
#pragma once

#include <memory>

namespace rocksdb {
class FileSystem;
}  // namespace rocksdb

namespace lectern::storage {

// Every error of a write, sync, rename or link of `target` becomes a retryable I/O error with the
// same text.
std::shared_ptr<rocksdb::FileSystem> NewRecoverableFileSystem(
    std::shared_ptr<rocksdb::FileSystem> target);

}  // namespace lectern::storage
