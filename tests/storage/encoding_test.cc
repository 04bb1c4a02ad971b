// Payload codec and typed records: what is written is read; what is cut, flipped or too new is
// refused by name.
#include "storage/encoding.h"

#include <functional>
#include <random>

#include <xxhash.h>

#include "storage/keys.h"
#include "storage/records.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

TEST(EncodingTest, NumbersAndBytesComeBack) {
  Encoder encoder;
  encoder.Fixed8(0xab);
  encoder.Fixed16(0x1234);
  encoder.Fixed32(0x89abcdef);
  encoder.Fixed64(0x0123456789abcdef);
  const uint64_t varints[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
  for (const uint64_t value : varints) encoder.Varint(value);
  const int64_t signed_varints[] = {0, -1, 1, INT64_MIN, INT64_MAX};
  for (const int64_t value : signed_varints) encoder.SignedVarint(value);
  encoder.Bool(true);
  encoder.Bytes(std::string("a\0b", 3));

  Decoder decoder(encoder.bytes());
  EXPECT_EQ(decoder.Fixed8(), 0xab);
  EXPECT_EQ(decoder.Fixed16(), 0x1234);
  EXPECT_EQ(decoder.Fixed32(), 0x89abcdefu);
  EXPECT_EQ(decoder.Fixed64(), 0x0123456789abcdefu);
  for (const uint64_t value : varints) EXPECT_EQ(decoder.Varint(), value);
  for (const int64_t value : signed_varints) EXPECT_EQ(decoder.SignedVarint(), value);
  EXPECT_TRUE(decoder.Bool());
  EXPECT_EQ(decoder.Bytes(), std::string_view("a\0b", 3));
  EXPECT_OK(decoder.Finish("sample"));
}

TEST(EncodingTest, BytesOnDiskAreLittleEndian) {
  Encoder encoder;
  encoder.Fixed32(0x01020304);
  encoder.Varint(300);
  EXPECT_EQ(encoder.bytes(), "\x04\x03\x02\x01\xac\x02");
}

TEST(EncodingTest, HostileLengthsCostAnErrorAndNoMemory) {
  for (const uint64_t claim : {uint64_t{5}, uint64_t{1} << 40, UINT64_MAX}) {
    Encoder encoder;
    encoder.Varint(claim);
    encoder.Raw("abcd");
    Decoder bytes(encoder.bytes());
    EXPECT_EQ(bytes.Bytes(), "");
    EXPECT_FALSE(bytes.ok());
    Decoder count(encoder.bytes());
    EXPECT_EQ(count.Count(1), 0u);
    EXPECT_FALSE(count.ok());
  }
}

TEST(EncodingTest, OnlyTheShortestVarintIsRead) {
  for (const std::string_view text :
       {std::string_view("\x80\x00", 2),
        std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10),
        std::string_view("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11)}) {
    Decoder decoder(text);
    decoder.Varint();
    EXPECT_FALSE(decoder.ok());
  }
}

TEST(EncodingTest, LeftOverBytesAreAnError) {
  Decoder decoder("ab");
  decoder.Fixed8();
  EXPECT_CODE(decoder.Finish("sample"), absl::StatusCode::kDataLoss);
}

// One filled record of every kind, with the check that it survives a round trip and nothing else
// does.
struct Sample {
  std::string name;
  std::string key;
  std::string value;
  std::function<absl::Status(std::string_view key, std::string_view value)> parse;  // and compare
};

template <typename T>
Sample MakeSample(std::string name, T record) {
  std::string key = "key of " + name;
  std::string value = FormatRecord(key, record);
  return {std::move(name), std::move(key), std::move(value),
          [record](std::string_view key, std::string_view value) -> absl::Status {
            absl::StatusOr<T> parsed = ParseRecord<T>(key, value);
            if (!parsed.ok()) return parsed.status();
            return *parsed == record ? absl::OkStatus()
                                     : absl::UnknownError("another record came back");
          }};
}

Digest SampleDigest(uint8_t first) {
  Digest digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(first + i);
  return digest;
}

std::vector<Sample> Samples() {
  const std::vector<Segment> segments = {{7, 0, 3}, {9, 3, 1}};
  Generation generation{5,
                        4,
                        {{8, "doc", "Document", SampleDigest(3)}},
                        "layout-1",
                        "text-1",
                        SampleDigest(9),
                        SmallGeometry(),
                        Residency::kPartial,
                        {{500, segments, {1, -2, 3}}},
                        100,
                        200};
  IngestIntent intent{6, 1, 4, 5, 77, SmallGeometry(), {8, 9}, {{segments, 11, 4, 6, 700}}, "plan"};
  Operation operation{6,           1,          4,           "ingest", OperationState::kFailed,
                      "prefill",   10,         20,          5,        8,
                      "DISK_FULL", "no space", "request-1", "detail", 1,
                      2,           3};
  Session session{12, 1,   4,        5,  0, "s", "Session", 11,          2,
                  3,  500, segments, 13, 3, 1,   2,         std::nullopt};
  Lineage lineage{1, LineageState::kPurging, 3, 6, 77, 123456, SmallGeometry()};
  BlockRun run{99, {{128, SampleDigest(1)}, {5, SampleDigest(2)}}, "cpu/avx512"};
  return {
      MakeSample("StoreInfo", StoreInfo{"0123", SampleDigest(0), 1, 2, 3}),
      MakeSample("Tenant", Tenant{1, "default", "Default", -5, {1, 200, 3}}),
      MakeSample("Corpus", Corpus{4, 1, "c", "Corpus", 1, 2, 3, 5, 6, 7, 8}),
      MakeSample("Document",
                 Document{8, 4, "doc", "Doc", "text/plain", 1234, SampleDigest(3), 2, 9, true}),
      MakeSample("Upload", Upload{4}),
      MakeSample("Generation", generation),
      MakeSample("IngestIntent", intent),
      MakeSample("Import",
                 Import{4, 1, "c", "0123", 77, true, {{8, 9, true}}, {{5, 6, false}}, {{2, 3, 4}}}),
      MakeSample("KeptRecord", KeptRecord{std::string(200, 'k')}),
      MakeSample("Operation", operation),
      MakeSample("Session", session),
      MakeSample("Turn", Turn{3, 500, 9, std::string(300, 'x')}),
      MakeSample("Link", Link{300}),
      MakeSample("Reference", Reference{}),
      MakeSample("Lineage", lineage),
      MakeSample("BlockRun", run),
      MakeSample("Reclaim", Reclaim{ColumnFamily::kDocument, "a", "b"}),
      MakeSample("HashEntry", HashEntry{7, 9}),
  };
}

TEST(RecordsTest, EveryKindComesBack) {
  for (const Sample& sample : Samples())
    EXPECT_OK(sample.parse(sample.key, sample.value)) << sample.name;
}

TEST(RecordsTest, EveryTruncationIsDetected) {
  for (const Sample& sample : Samples()) {
    for (size_t size = 0; size < sample.value.size(); ++size) {
      EXPECT_CODE(sample.parse(sample.key, std::string_view(sample.value).substr(0, size)),
                  absl::StatusCode::kDataLoss);
    }
    EXPECT_CODE(sample.parse(sample.key, sample.value + "x"), absl::StatusCode::kDataLoss);
  }
}

TEST(RecordsTest, EveryFlippedBitIsDetected) {
  for (const Sample& sample : Samples()) {
    for (size_t bit = 0; bit < sample.value.size() * 8; ++bit) {
      std::string damaged = sample.value;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      EXPECT_CODE(sample.parse(sample.key, damaged), absl::StatusCode::kDataLoss);
    }
  }
}

TEST(RecordsTest, ARecordUnderAnotherKeyIsDamageThatNamesKindAndKey) {
  for (const Sample& sample : Samples()) {
    const absl::Status status = sample.parse("another key", sample.value);
    EXPECT_CODE(status, absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(sample.name + " at "));
  }
}

// Decoders past the checksum: a payload sealed anew around damage must cost an error at most.
TEST(RecordsTest, SealedGarbageNeverDoesMoreThanFail) {
  std::mt19937_64 random(1);
  const auto decode_all = [](std::string_view payload) {
    const auto decode = [&]<typename T>(T*) {
      const uint8_t newest = RecordVersion(RecordCodec<T>::kKind);
      for (uint8_t version = 1; version <= newest; ++version) {
        Decoder decoder(payload);
        const T record = RecordCodec<T>::Decode(version, &decoder);
        // Whatever decodes without an error encodes again to the same bytes.
        if (version < newest || !decoder.ok() || decoder.remaining() != 0) continue;
        Encoder again;
        RecordCodec<T>::Encode(record, &again);
        EXPECT_EQ(again.bytes(), payload);
      }
    };
    decode(static_cast<StoreInfo*>(nullptr));
    decode(static_cast<Tenant*>(nullptr));
    decode(static_cast<Corpus*>(nullptr));
    decode(static_cast<Document*>(nullptr));
    decode(static_cast<Generation*>(nullptr));
    decode(static_cast<IngestIntent*>(nullptr));
    decode(static_cast<Import*>(nullptr));
    decode(static_cast<KeptRecord*>(nullptr));
    decode(static_cast<Session*>(nullptr));
    decode(static_cast<Turn*>(nullptr));
    decode(static_cast<Lineage*>(nullptr));
    decode(static_cast<BlockRun*>(nullptr));
    decode(static_cast<Reclaim*>(nullptr));
    decode(static_cast<HashEntry*>(nullptr));
  };
  for (const Sample& sample : Samples()) {
    const std::string payload = sample.value.substr(kRecordHeaderBytes);
    for (int round = 0; round < 2000; ++round) {
      std::string damaged = payload;
      for (uint64_t hits = 1 + random() % 3; hits > 0 && !damaged.empty(); --hits) {
        damaged[random() % damaged.size()] = static_cast<char>(random());
      }
      damaged.resize(random() % 4 == 0 ? random() % (damaged.size() + 1) : damaged.size());
      decode_all(damaged);
    }
  }
}

// Found by tests/fuzz/records_fuzz: an error code of more than 32 bits was cut instead of refused.
TEST(RecordsTest, NumbersThatDoNotFitTheirFieldAreDamage) {
  Encoder encoder;
  for (const uint64_t uid : {6, 1, 4}) encoder.Varint(uid);
  encoder.Bytes("ingest");
  encoder.Varint(static_cast<uint64_t>(OperationState::kFailed));
  encoder.Bytes("prefill");
  for (int i = 0; i < 3; ++i) encoder.Varint(0);  // tokens done and in all, generation
  encoder.SignedVarint(int64_t{1} << 40);         // the error's code
  for (int i = 0; i < 4; ++i) encoder.Bytes("");
  for (int i = 0; i < 3; ++i) encoder.SignedVarint(0);
  const std::string key = ObjectKey(KeySpace::kOperation, 6);
  const std::string value =
      SealRecord(RecordKind::kOperation, ColumnFamily::kCatalog, key, encoder.bytes());
  EXPECT_CODE(ParseRecord<Operation>(key, value), absl::StatusCode::kDataLoss);
}

TEST(RecordsTest, ANewerVersionIsRefusedByName) {
  const std::string key = ObjectKey(KeySpace::kCorpus, 4);
  std::string value = FormatRecord(key, Corpus{});
  // As a newer program would write it: the version raised, and the checksum right by
  // storage/README.md.
  value[3] = 3;
  Encoder hashed;
  hashed.Fixed8(0);  // the catalog's column family
  hashed.Fixed32(static_cast<uint32_t>(key.size()));
  hashed.Raw(key);
  hashed.Raw(std::string_view(value).substr(0, 8));
  hashed.Raw(std::string_view(value).substr(kRecordHeaderBytes));
  const XXH128_hash_t checksum = XXH3_128bits(hashed.bytes().data(), hashed.bytes().size());
  Encoder stored;
  stored.Fixed64(checksum.low64);
  stored.Fixed64(checksum.high64);
  value.replace(8, 16, stored.bytes());
  const absl::Status status = ParseRecord<Corpus>(key, value).status();
  EXPECT_CODE(status, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("Corpus record has version 3"));
}

}  // namespace
}  // namespace lectern::storage
