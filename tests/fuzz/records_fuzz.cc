// The first byte chooses a kind, the second a version; the rest is a payload. It is decoded as it
// is, sealed anew and opened, and opened as a whole value.
#include "storage/record.h"
#include "storage/records.h"
#include "tests/fuzz/fuzz_input.h"

namespace lectern::storage {
namespace {

template <typename T>
void Decode(std::string_view payload, size_t version_choice) {
  using Codec = RecordCodec<T>;
  const uint8_t newest = RecordVersion(Codec::kKind);
  const auto version = static_cast<uint8_t>(1 + version_choice % newest);
  Decoder decoder(payload);
  const T record = Codec::Decode(version, &decoder);
  if (version == newest && decoder.ok() && decoder.remaining() == 0) {
    Encoder again;
    Codec::Encode(record, &again);
    FUZZ_CHECK(again.bytes() == payload);
    const std::string sealed = FormatRecord("key", record);
    const absl::StatusOr<T> parsed = ParseRecord<T>("key", sealed);
    FUZZ_CHECK(parsed.ok() && *parsed == record);
  }
  // Whatever a checksum vouches for.
  const std::string sealed = SealRecord(Codec::kKind, Codec::kFamily, "key", payload);
  ParseRecord<T>("key", sealed).status().IgnoreError();
  // Whatever lies on the disk.
  ParseRecord<T>("key", payload).status().IgnoreError();
}

using Target = void (*)(std::string_view, size_t);
constexpr Target kTargets[] = {
    Decode<StoreInfo>,  Decode<Tenant>,       Decode<Corpus>,    Decode<Document>, Decode<Upload>,
    Decode<Generation>, Decode<IngestIntent>, Decode<Operation>, Decode<Session>,  Decode<Turn>,
    Decode<Link>,       Decode<Reference>,    Decode<Lineage>,   Decode<BlockRun>, Decode<Reclaim>,
    Decode<HashEntry>,  Decode<Import>,       Decode<KeptRecord>};

// A data record as it lies on the disk, and its slices.
void OpenData(std::string_view value) {
  for (const auto& [kind, family] : {std::pair(RecordKind::kKv, ColumnFamily::kKv),
                                     std::pair(RecordKind::kIndexBf16, ColumnFamily::kIndexKeys)}) {
    const absl::StatusOr<DataRecord> record = DataRecord::Open(kind, family, "key", value);
    if (!record.ok()) continue;
    for (size_t slice = 0; slice <= record->header().slices; ++slice) {
      record->Slice(slice, 0, record->payload().size()).status().IgnoreError();
      record->Slice(slice, record->payload().size(), 1).status().IgnoreError();
    }
  }
}

}  // namespace
}  // namespace lectern::storage

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::storage;  // NOLINT: the target's subject
  std::string_view input = AsText(data, size);
  const size_t kind = TakeChoice(&input, std::size(kTargets) + 1);
  const size_t version = TakeChoice(&input, 256);
  if (kind == std::size(kTargets)) {
    OpenData(input);
  } else {
    kTargets[kind](input, version);
  }
  return 0;
}
