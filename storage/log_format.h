// The framing of RocksDB's logs and manifests, as far as it takes to tell where the last whole
// record ends: blocks of 32 KiB with pieces of records, each behind a checksum (CRC-32C, masked),
// a length and a type; see RocksDB's wiki, "Write Ahead Log File Format". Internal to storage.
#pragma once

#include <cstdint>
#include <string_view>

namespace lectern::storage {

// Bytes of `file` up to the end of the last record before the first that is damaged or cut short.
uint64_t WholeRecordsEnd(std::string_view file);

}  // namespace lectern::storage
