// storage/README.md, spelled out byte by byte: what is written today must be readable for ever.
#include <fmt/format.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "storage/keys.h"
#include "storage/lineage_ledger.h"
#include "storage/record.h"
#include "storage/records.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char byte : bytes) hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return hex;
}

Digest Counting() {
  Digest digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(i);
  return digest;
}

constexpr char kCountingHex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

TEST(FormatTest, Keys) {
  EXPECT_EQ(Hex(StoreInfoKey()), "01");
  EXPECT_EQ(Hex(ObjectKey(KeySpace::kCorpus, 0x0102030405060708)), "110102030405060708");
  EXPECT_EQ(Hex(ChildKey(KeySpace::kTurn, 5, 6)), "1800000000000000050000000000000006");
  EXPECT_EQ(Hex(NameKey(KeySpace::kSessionIds, 5, "ab")), "3300000000000000056162");
  EXPECT_EQ(Hex(BlockRunKey(5, 6)), "41000000000000000500000006");
  EXPECT_EQ(Hex(ReferenceKey(KeySpace::kLineageReference, 5, HolderKind::kSession, 7)),
            "420000000000000005030000000000000007");
  EXPECT_EQ(Hex(HashKey(2, Counting())), std::string("0000000000000002") + kCountingHex);
  EXPECT_EQ(Hex(KvKey(2, 3, 4, 5)), "00000000000000020000000000000003000000040005");
  EXPECT_EQ(Hex(IndexKey(2, 3, RecordKind::kIndexBf16, 4, 5)),
            "0000000000000002000000000000000321000000040005");
  EXPECT_EQ(Hex(DocumentChunkKey(2, 3, 4)), "010000000000000002000000000000000300000004");
  EXPECT_EQ(Hex(LayoutPieceKey(2, 3, 4, 5)), "020000000000000002000000030000000400000005");
}

TEST(FormatTest, NumberOrderIsByteOrder) {
  EXPECT_LT(KvKey(1, 2, 255, 9), KvKey(1, 2, 256, 0));
  EXPECT_LT(KvKey(1, 2, UINT32_MAX, 9), KvKey(1, 3, 0, 0));
  EXPECT_EQ(PrefixEnd("a"), "b");
  EXPECT_EQ(PrefixEnd("a\xff\xff"), "b");
  EXPECT_LT(KvKey(1, UINT64_MAX, 0, 0), PrefixEnd(LineagePrefix(1, UINT64_MAX)));
}

TEST(FormatTest, SmallRecords) {
  const std::string key = HashKey(2, Counting());
  const std::string value = FormatRecord(key, HashEntry{300, 7});
  EXPECT_EQ(Hex(value.substr(0, 8)), "4c72100103000000") << "magic, kind, version, length";
  EXPECT_EQ(Hex(value.substr(kRecordHeaderBytes)), "ac0207");
  const std::string run_key = BlockRunKey(5, 6);
  const BlockRun run = {300, {{128, Counting()}, {9, Counting()}}, "cpu"};
  EXPECT_EQ(Hex(FormatRecord(run_key, run).substr(kRecordHeaderBytes)),
            std::string("ac02") + "02" + "8001" + kCountingHex + "09" + kCountingHex + "03637075");
  const std::string lineage_key = ObjectKey(KeySpace::kLineage, 5);
  const Lineage lineage = {1, LineageState::kLive, 2, 4, 9, 300, SmallGeometry()};
  EXPECT_EQ(Hex(FormatRecord(lineage_key, lineage).substr(kRecordHeaderBytes)),
            "0101020409ac0203020804"
            "03010001");
}

// A catalog record as an earlier version of its kind was written.
std::string OldVersion(uint8_t kind, uint8_t version, const std::string& key,
                       const std::string& payload) {
  Encoder old;
  old.Raw("Lr");
  old.Fixed8(kind);
  old.Fixed8(version);
  old.Fixed32(static_cast<uint32_t>(payload.size()));
  Encoder bound;
  bound.Fixed8(0);  // the column family default
  bound.Fixed32(static_cast<uint32_t>(key.size()));
  bound.Raw(key);
  bound.Raw(old.bytes());
  bound.Raw(payload);
  const XXH128_hash_t checksum = XXH3_128bits(bound.bytes().data(), bound.bytes().size());
  old.Fixed64(checksum.low64);
  old.Fixed64(checksum.high64);
  old.Raw(payload);
  return old.Take();
}

// Quotas came with version 2, the weight with version 3; a tenant of version 1 has neither.
TEST(FormatTest, TenantsOfEveryVersion) {
  const std::string key = ObjectKey(KeySpace::kTenant, 5);
  const Tenant tenant = {5, "acme", "Acme", 3, {300, 7, 1, 9}};
  const std::string value = FormatRecord(key, tenant);
  EXPECT_EQ(Hex(value.substr(0, 8)), "4c72020311000000") << "magic, kind, version, length";
  EXPECT_EQ(Hex(value.substr(kRecordHeaderBytes)), "050461636d650441636d6506ac02070109");
  EXPECT_EQ(*ParseRecord<Tenant>(key, value), tenant);

  absl::StatusOr<Tenant> read =
      ParseRecord<Tenant>(key, OldVersion(2, 1, key, value.substr(kRecordHeaderBytes, 12)));
  ASSERT_OK(read);
  EXPECT_EQ(*read, (Tenant{5, "acme", "Acme", 3, {}}));

  read = ParseRecord<Tenant>(key, OldVersion(2, 2, key, value.substr(kRecordHeaderBytes, 16)));
  ASSERT_OK(read);
  EXPECT_EQ(*read, (Tenant{5, "acme", "Acme", 3, {300, 7, 1, 0}}));
}

// Pins and the time of the last use came with version 2; a corpus of version 1 was last used when
// it last changed.
TEST(FormatTest, CorporaOfBothVersions) {
  const std::string key = ObjectKey(KeySpace::kCorpus, 5);
  const Corpus corpus = {5, 1, "c", "C", 3, 4, std::nullopt, 6, 7, 8, 9, true, 300};
  const std::string value = FormatRecord(key, corpus);
  EXPECT_EQ(Hex(value.substr(0, 8)), "4c72030210000000") << "magic, kind, version, length";
  EXPECT_EQ(Hex(value.substr(kRecordHeaderBytes)), "0501016301430608000607080901d804");
  EXPECT_EQ(*ParseRecord<Corpus>(key, value), corpus);
  absl::StatusOr<Corpus> read =
      ParseRecord<Corpus>(key, OldVersion(3, 1, key, value.substr(kRecordHeaderBytes, 13)));
  ASSERT_OK(read);
  EXPECT_EQ(*read, (Corpus{5, 1, "c", "C", 3, 4, std::nullopt, 6, 7, 8, 9, false, 4}));
}

// A data record as another program would write it from the README alone.
TEST(FormatTest, KvRecord) {
  SampleCache cache(SmallGeometry(), 1);
  const uint32_t tokens = 5;
  const BlockBatch batch = cache.Blocks(0, tokens);
  const std::string key = KvKey(2, 3, 0, 1);
  const std::string value = EncodeKv(SmallGeometry(), batch.blocks[0], 1, 77, key);

  const std::vector<std::byte> payload = cache.Kv(1, 0, tokens);
  Encoder expected;
  expected.Raw("Lr");
  expected.Fixed8(32);
  expected.Fixed8(1);
  expected.Fixed32(static_cast<uint32_t>(payload.size()));
  expected.Fixed64(77);
  expected.Digest32(batch.blocks[0].hash);
  expected.Fixed32(tokens);
  expected.Fixed16(2);
  expected.Fixed16(8);
  expected.Fixed8(2);
  expected.Raw(std::string(7, '\0'));
  const size_t slice = payload.size() / 2;
  for (size_t head = 0; head < 2; ++head) {
    expected.Fixed64(XXH3_64bits(payload.data() + head * slice, slice));
  }
  Encoder bound;
  bound.Fixed8(3);  // the column family kv
  bound.Fixed32(static_cast<uint32_t>(key.size()));
  bound.Raw(key);
  bound.Raw(expected.bytes());
  const XXH128_hash_t checksum = XXH3_128bits(bound.bytes().data(), bound.bytes().size());
  expected.Fixed64(checksum.low64);
  expected.Fixed64(checksum.high64);
  expected.Raw({reinterpret_cast<const char*>(payload.data()), payload.size()});
  EXPECT_EQ(Hex(value), Hex(expected.bytes()));
}

TEST(FormatTest, IndexRunRecord) {
  SampleCache cache(SmallGeometry(), 1);
  const BlockBatch batch = cache.Blocks(0, 128 + 3);
  const std::string key = IndexKey(2, 3, RecordKind::kIndexBf16, 0, 2);
  const std::string value = EncodeIndexRun(SmallGeometry(), batch.blocks, 2, 77, key);
  absl::StatusOr<DataRecord> record =
      DataRecord::Open(RecordKind::kIndexBf16, ColumnFamily::kIndexKeys, key, value);
  ASSERT_OK(record);
  EXPECT_EQ(record->header().tokens, 131u);
  EXPECT_EQ(record->header().slices, 2u);
  EXPECT_EQ(record->header().hash, batch.blocks[1].hash);
  const std::vector<std::byte> payload = cache.IndexKeys(2, 0, 131);
  EXPECT_EQ(Hex(record->payload()),
            Hex({reinterpret_cast<const char*>(payload.data()), payload.size()}));
  EXPECT_OK(record->Slice(1, 128 * 8, 3 * 8));
  EXPECT_CODE(record->Slice(0, 128 * 8, 3 * 8), absl::StatusCode::kDataLoss);
  EXPECT_CODE(record->Slice(2, 0, 8), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace lectern::storage
