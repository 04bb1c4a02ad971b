#include "storage/records.h"

#include <optional>

namespace lectern::storage {
namespace {

// Smallest encodings, which bound what a count may claim.
constexpr size_t kMinSegmentBytes = 3;
constexpr size_t kMinVarintBytes = 1;
constexpr size_t kDigestBytes = sizeof(Digest);

void Encode(const std::optional<int64_t>& time, Encoder* encoder) {
  encoder->Bool(time.has_value());
  if (time.has_value()) encoder->SignedVarint(*time);
}

std::optional<int64_t> DecodeOptionalTime(Decoder* decoder) {
  if (!decoder->Bool()) return std::nullopt;
  return decoder->SignedVarint();
}

// An enum stored as a varint; anything outside [lowest, highest] is damage.
template <typename E>
E DecodeEnum(E lowest, E highest, Decoder* decoder) {
  const uint64_t value = decoder->Varint();
  if (value < static_cast<uint64_t>(lowest) || value > static_cast<uint64_t>(highest)) {
    decoder->Fail();
    return lowest;
  }
  return static_cast<E>(value);
}

uint16_t DecodeVarint16(Decoder* decoder) {
  const uint32_t value = decoder->Varint32();
  if (value > UINT16_MAX) decoder->Fail();
  return static_cast<uint16_t>(value);
}

int32_t DecodeSigned32(Decoder* decoder) {
  const int64_t value = decoder->SignedVarint();
  if (value < INT32_MIN || value > INT32_MAX) decoder->Fail();
  return static_cast<int32_t>(value);
}

std::string DecodeString(Decoder* decoder) { return std::string(decoder->Bytes()); }

template <typename T, typename EncodeElement>
void EncodeList(const std::vector<T>& list, Encoder* encoder, const EncodeElement& encode) {
  encoder->Varint(list.size());
  for (const T& element : list) encode(element);
}

template <typename T, typename DecodeElement>
std::vector<T> DecodeList(size_t min_bytes, Decoder* decoder, const DecodeElement& decode) {
  std::vector<T> list(decoder->Count(min_bytes));
  for (T& element : list) {
    element = decode();
    if (!decoder->ok()) return {};
  }
  return list;
}

void EncodeUids(const std::vector<uint64_t>& uids, Encoder* encoder) {
  EncodeList(uids, encoder, [&](uint64_t uid) { encoder->Varint(uid); });
}

std::vector<uint64_t> DecodeUids(Decoder* decoder) {
  return DecodeList<uint64_t>(kMinVarintBytes, decoder, [&] { return decoder->Varint(); });
}

void EncodeSegments(const std::vector<Segment>& segments, Encoder* encoder) {
  EncodeList(segments, encoder, [&](const Segment& segment) {
    encoder->Varint(segment.lineage);
    encoder->Varint(segment.first_block);
    encoder->Varint(segment.block_count);
  });
}

std::vector<Segment> DecodeSegments(Decoder* decoder) {
  return DecodeList<Segment>(kMinSegmentBytes, decoder, [&] {
    Segment segment;
    segment.lineage = decoder->Varint();
    segment.first_block = decoder->Varint32();
    segment.block_count = decoder->Varint32();
    if (uint64_t{segment.first_block} + segment.block_count > UINT32_MAX) decoder->Fail();
    return segment;
  });
}

void EncodeGeometry(const Geometry& geometry, Encoder* encoder) {
  encoder->Varint(geometry.layers);
  encoder->Varint(geometry.kv_heads);
  encoder->Varint(geometry.head_dim);
  encoder->Varint(geometry.index_dim);
  encoder->Bytes({reinterpret_cast<const char*>(geometry.indexed.data()), geometry.indexed.size()});
}

Geometry DecodeGeometry(Decoder* decoder) {
  Geometry geometry;
  geometry.layers = DecodeVarint16(decoder);
  geometry.kv_heads = DecodeVarint16(decoder);
  geometry.head_dim = DecodeVarint16(decoder);
  geometry.index_dim = DecodeVarint16(decoder);
  const std::string_view indexed = decoder->Bytes();
  geometry.indexed.assign(indexed.begin(), indexed.end());
  if (!geometry.Validate().ok()) decoder->Fail();
  return geometry;
}

}  // namespace

void RecordCodec<StoreInfo>::Encode(const StoreInfo& record, Encoder* encoder) {
  encoder->Bytes(record.store_id);
  encoder->Digest32(record.secret);
  encoder->Varint(record.next_uid);
  encoder->Varint(record.next_lineage);
  encoder->Varint(record.next_sequence);
}

StoreInfo RecordCodec<StoreInfo>::Decode(uint8_t, Decoder* decoder) {
  StoreInfo record;
  record.store_id = DecodeString(decoder);
  record.secret = decoder->Digest32();
  record.next_uid = decoder->Varint();
  record.next_lineage = decoder->Varint();
  record.next_sequence = decoder->Varint();
  return record;
}

void RecordCodec<Tenant>::Encode(const Tenant& record, Encoder* encoder) {
  encoder->Varint(record.uid);
  encoder->Bytes(record.id);
  encoder->Bytes(record.display_name);
  encoder->SignedVarint(record.create_time);
  encoder->Varint(record.quota.disk_bytes);
  encoder->Varint(record.quota.tokens_per_minute);
  encoder->Varint(record.quota.concurrent_requests);
  encoder->Varint(record.quota.weight);
}

Tenant RecordCodec<Tenant>::Decode(uint8_t version, Decoder* decoder) {
  Tenant record;
  record.uid = decoder->Varint();
  record.id = DecodeString(decoder);
  record.display_name = DecodeString(decoder);
  record.create_time = decoder->SignedVarint();
  if (version < 2) return record;  // before there were quotas
  record.quota.disk_bytes = decoder->Varint();
  record.quota.tokens_per_minute = decoder->Varint();
  record.quota.concurrent_requests = decoder->Varint();
  if (version < 3) return record;  // all weighed the same
  record.quota.weight = decoder->Varint();
  return record;
}

void RecordCodec<Corpus>::Encode(const Corpus& record, Encoder* encoder) {
  encoder->Varint(record.uid);
  encoder->Varint(record.tenant_uid);
  encoder->Bytes(record.id);
  encoder->Bytes(record.display_name);
  encoder->SignedVarint(record.create_time);
  encoder->SignedVarint(record.update_time);
  storage::Encode(record.expire_time, encoder);
  encoder->Varint(record.current_generation);
  encoder->Varint(record.document_count);
  encoder->Varint(record.document_bytes);
  encoder->Varint(record.next_ordinal);
  encoder->Bool(record.pinned);
  encoder->SignedVarint(record.last_used_time);
}

Corpus RecordCodec<Corpus>::Decode(uint8_t version, Decoder* decoder) {
  Corpus record;
  record.uid = decoder->Varint();
  record.tenant_uid = decoder->Varint();
  record.id = DecodeString(decoder);
  record.display_name = DecodeString(decoder);
  record.create_time = decoder->SignedVarint();
  record.update_time = decoder->SignedVarint();
  record.expire_time = DecodeOptionalTime(decoder);
  record.current_generation = decoder->Varint();
  record.document_count = decoder->Varint();
  record.document_bytes = decoder->Varint();
  record.next_ordinal = decoder->Varint();
  record.last_used_time = record.update_time;
  if (version < 2) return record;  // before there was eviction
  record.pinned = decoder->Bool();
  record.last_used_time = decoder->SignedVarint();
  return record;
}

void RecordCodec<Document>::Encode(const Document& record, Encoder* encoder) {
  encoder->Varint(record.uid);
  encoder->Varint(record.corpus_uid);
  encoder->Bytes(record.id);
  encoder->Bytes(record.display_name);
  encoder->Bytes(record.media_type);
  encoder->Varint(record.byte_length);
  encoder->Digest32(record.sha256);
  encoder->Varint(record.ordinal);
  encoder->SignedVarint(record.create_time);
  encoder->Bool(record.removed);
}

Document RecordCodec<Document>::Decode(uint8_t, Decoder* decoder) {
  Document record;
  record.uid = decoder->Varint();
  record.corpus_uid = decoder->Varint();
  record.id = DecodeString(decoder);
  record.display_name = DecodeString(decoder);
  record.media_type = DecodeString(decoder);
  record.byte_length = decoder->Varint();
  record.sha256 = decoder->Digest32();
  record.ordinal = decoder->Varint();
  record.create_time = decoder->SignedVarint();
  record.removed = decoder->Bool();
  return record;
}

void RecordCodec<Upload>::Encode(const Upload& record, Encoder* encoder) {
  encoder->Varint(record.corpus_uid);
}

Upload RecordCodec<Upload>::Decode(uint8_t, Decoder* decoder) { return {decoder->Varint()}; }

void RecordCodec<Generation>::Encode(const Generation& record, Encoder* encoder) {
  encoder->Varint(record.uid);
  encoder->Varint(record.corpus_uid);
  EncodeList(record.documents, encoder, [&](const GenerationDocument& document) {
    encoder->Varint(document.uid);
    encoder->Bytes(document.id);
    encoder->Bytes(document.display_name);
    encoder->Digest32(document.sha256);
  });
  encoder->Bytes(record.layout_version);
  encoder->Bytes(record.extractor_version);
  encoder->Digest32(record.model_fingerprint);
  EncodeGeometry(record.geometry, encoder);
  encoder->Varint(static_cast<uint64_t>(record.residency));
  EncodeList(record.contexts, encoder, [&](const GenerationContext& context) {
    encoder->Varint(context.token_count);
    EncodeSegments(context.segments, encoder);
    EncodeList(context.tail_tokens, encoder, [&](int32_t token) { encoder->SignedVarint(token); });
  });
  encoder->SignedVarint(record.create_time);
  encoder->SignedVarint(record.publish_time);
}

Generation RecordCodec<Generation>::Decode(uint8_t, Decoder* decoder) {
  Generation record;
  record.uid = decoder->Varint();
  record.corpus_uid = decoder->Varint();
  record.documents = DecodeList<GenerationDocument>(3 + kDigestBytes, decoder, [&] {
    GenerationDocument document;
    document.uid = decoder->Varint();
    document.id = DecodeString(decoder);
    document.display_name = DecodeString(decoder);
    document.sha256 = decoder->Digest32();
    return document;
  });
  record.layout_version = DecodeString(decoder);
  record.extractor_version = DecodeString(decoder);
  record.model_fingerprint = decoder->Digest32();
  record.geometry = DecodeGeometry(decoder);
  record.residency = DecodeEnum(Residency::kNone, Residency::kQuarantined, decoder);
  record.contexts = DecodeList<GenerationContext>(3, decoder, [&] {
    GenerationContext context;
    context.token_count = decoder->Varint();
    context.segments = DecodeSegments(decoder);
    context.tail_tokens =
        DecodeList<int32_t>(kMinVarintBytes, decoder, [&] { return DecodeSigned32(decoder); });
    return context;
  });
  record.create_time = decoder->SignedVarint();
  record.publish_time = decoder->SignedVarint();
  return record;
}

void RecordCodec<IngestIntent>::Encode(const IngestIntent& record, Encoder* encoder) {
  encoder->Varint(record.operation_uid);
  encoder->Varint(record.tenant_uid);
  encoder->Varint(record.corpus_uid);
  encoder->Varint(record.generation_uid);
  encoder->SignedVarint(record.create_time);
  EncodeGeometry(record.geometry, encoder);
  EncodeUids(record.documents, encoder);
  EncodeList(record.contexts, encoder, [&](const IngestContext& context) {
    EncodeSegments(context.reused, encoder);
    encoder->Varint(context.lineage);
    encoder->Varint(context.first_block);
    encoder->Varint(context.end_block);
    encoder->Varint(context.token_count);
  });
  encoder->Bytes(record.plan);
}

IngestIntent RecordCodec<IngestIntent>::Decode(uint8_t, Decoder* decoder) {
  IngestIntent record;
  record.operation_uid = decoder->Varint();
  record.tenant_uid = decoder->Varint();
  record.corpus_uid = decoder->Varint();
  record.generation_uid = decoder->Varint();
  record.create_time = decoder->SignedVarint();
  record.geometry = DecodeGeometry(decoder);
  record.documents = DecodeUids(decoder);
  record.contexts = DecodeList<IngestContext>(5, decoder, [&] {
    IngestContext context;
    context.reused = DecodeSegments(decoder);
    context.lineage = decoder->Varint();
    context.first_block = decoder->Varint32();
    context.end_block = decoder->Varint32();
    context.token_count = decoder->Varint();
    return context;
  });
  record.plan = DecodeString(decoder);
  return record;
}

void RecordCodec<Import>::Encode(const Import& record, Encoder* encoder) {
  encoder->Varint(record.corpus_uid);
  encoder->Varint(record.tenant_uid);
  encoder->Bytes(record.id);
  encoder->Bytes(record.source_store);
  encoder->Varint(record.source_corpus);
  encoder->Bool(record.published);
  for (const std::vector<Import::Object>* objects : {&record.documents, &record.generations}) {
    EncodeList(*objects, encoder, [&](const Import::Object& object) {
      encoder->Varint(object.source);
      encoder->Varint(object.uid);
      encoder->Bool(object.complete);
    });
  }
  EncodeList(record.blocks, encoder, [&](const Import::Blocks& blocks) {
    encoder->Varint(blocks.source);
    encoder->Varint(blocks.lineage);
    encoder->Varint(blocks.first_block);
  });
}

Import RecordCodec<Import>::Decode(uint8_t, Decoder* decoder) {
  Import record;
  record.corpus_uid = decoder->Varint();
  record.tenant_uid = decoder->Varint();
  record.id = DecodeString(decoder);
  record.source_store = DecodeString(decoder);
  record.source_corpus = decoder->Varint();
  record.published = decoder->Bool();
  for (std::vector<Import::Object>* objects : {&record.documents, &record.generations}) {
    *objects = DecodeList<Import::Object>(3, decoder, [&] {
      Import::Object object;
      object.source = decoder->Varint();
      object.uid = decoder->Varint();
      object.complete = decoder->Bool();
      return object;
    });
  }
  record.blocks = DecodeList<Import::Blocks>(3, decoder, [&] {
    Import::Blocks blocks;
    blocks.source = decoder->Varint();
    blocks.lineage = decoder->Varint();
    blocks.first_block = decoder->Varint32();
    return blocks;
  });
  return record;
}

void RecordCodec<KeptRecord>::Encode(const KeptRecord& record, Encoder* encoder) {
  encoder->Bytes(record.value);
}

KeptRecord RecordCodec<KeptRecord>::Decode(uint8_t, Decoder* decoder) {
  return {.value = DecodeString(decoder)};
}

void RecordCodec<Operation>::Encode(const Operation& record, Encoder* encoder) {
  encoder->Varint(record.uid);
  encoder->Varint(record.tenant_uid);
  encoder->Varint(record.corpus_uid);
  encoder->Bytes(record.kind);
  encoder->Varint(static_cast<uint64_t>(record.state));
  encoder->Bytes(record.phase);
  encoder->Varint(record.tokens_done);
  encoder->Varint(record.tokens_total);
  encoder->Varint(record.generation_uid);
  encoder->SignedVarint(record.error_code);
  encoder->Bytes(record.error_reason);
  encoder->Bytes(record.error_message);
  encoder->Bytes(record.request_id);
  encoder->Bytes(record.detail);
  encoder->SignedVarint(record.create_time);
  encoder->SignedVarint(record.update_time);
  encoder->SignedVarint(record.end_time);
}

Operation RecordCodec<Operation>::Decode(uint8_t, Decoder* decoder) {
  Operation record;
  record.uid = decoder->Varint();
  record.tenant_uid = decoder->Varint();
  record.corpus_uid = decoder->Varint();
  record.kind = DecodeString(decoder);
  record.state = DecodeEnum(OperationState::kRunning, OperationState::kCancelled, decoder);
  record.phase = DecodeString(decoder);
  record.tokens_done = decoder->Varint();
  record.tokens_total = decoder->Varint();
  record.generation_uid = decoder->Varint();
  record.error_code = DecodeSigned32(decoder);
  record.error_reason = DecodeString(decoder);
  record.error_message = DecodeString(decoder);
  record.request_id = DecodeString(decoder);
  record.detail = DecodeString(decoder);
  record.create_time = decoder->SignedVarint();
  record.update_time = decoder->SignedVarint();
  record.end_time = decoder->SignedVarint();
  return record;
}

void RecordCodec<Session>::Encode(const Session& record, Encoder* encoder) {
  encoder->Varint(record.uid);
  encoder->Varint(record.tenant_uid);
  encoder->Varint(record.corpus_uid);
  encoder->Varint(record.generation_uid);
  encoder->Varint(record.context_index);
  encoder->Bytes(record.id);
  encoder->Bytes(record.display_name);
  encoder->Varint(record.parent_uid);
  encoder->Varint(record.fork_turn);
  encoder->Varint(record.turn_count);
  encoder->Varint(record.token_count);
  EncodeSegments(record.segments, encoder);
  encoder->Varint(record.lineage);
  encoder->Varint(record.lineage_first_block);
  encoder->SignedVarint(record.create_time);
  encoder->SignedVarint(record.update_time);
  storage::Encode(record.expire_time, encoder);
}

Session RecordCodec<Session>::Decode(uint8_t, Decoder* decoder) {
  Session record;
  record.uid = decoder->Varint();
  record.tenant_uid = decoder->Varint();
  record.corpus_uid = decoder->Varint();
  record.generation_uid = decoder->Varint();
  record.context_index = decoder->Varint32();
  record.id = DecodeString(decoder);
  record.display_name = DecodeString(decoder);
  record.parent_uid = decoder->Varint();
  record.fork_turn = decoder->Varint32();
  record.turn_count = decoder->Varint32();
  record.token_count = decoder->Varint();
  record.segments = DecodeSegments(decoder);
  record.lineage = decoder->Varint();
  record.lineage_first_block = decoder->Varint32();
  record.create_time = decoder->SignedVarint();
  record.update_time = decoder->SignedVarint();
  record.expire_time = DecodeOptionalTime(decoder);
  return record;
}

void RecordCodec<Turn>::Encode(const Turn& record, Encoder* encoder) {
  encoder->Varint(record.number);
  encoder->Varint(record.token_count);
  encoder->SignedVarint(record.create_time);
  encoder->Bytes(record.payload);
}

Turn RecordCodec<Turn>::Decode(uint8_t, Decoder* decoder) {
  Turn record;
  record.number = decoder->Varint32();
  record.token_count = decoder->Varint();
  record.create_time = decoder->SignedVarint();
  record.payload = DecodeString(decoder);
  return record;
}

void RecordCodec<Link>::Encode(const Link& record, Encoder* encoder) {
  encoder->Varint(record.uid);
}

Link RecordCodec<Link>::Decode(uint8_t, Decoder* decoder) { return {decoder->Varint()}; }

void RecordCodec<Reference>::Encode(const Reference&, Encoder*) {}

Reference RecordCodec<Reference>::Decode(uint8_t, Decoder*) { return {}; }

void RecordCodec<Lineage>::Encode(const Lineage& record, Encoder* encoder) {
  encoder->Varint(record.tenant_uid);
  encoder->Varint(static_cast<uint64_t>(record.state));
  encoder->Varint(record.first_block);
  encoder->Varint(record.end_block);
  encoder->Varint(record.tail_tokens);
  encoder->Varint(record.bytes);
  EncodeGeometry(record.geometry, encoder);
}

Lineage RecordCodec<Lineage>::Decode(uint8_t, Decoder* decoder) {
  Lineage record;
  record.tenant_uid = decoder->Varint();
  record.state = DecodeEnum(LineageState::kLive, LineageState::kPurging, decoder);
  record.first_block = decoder->Varint32();
  record.end_block = decoder->Varint32();
  record.tail_tokens = decoder->Varint32();
  record.bytes = decoder->Varint();
  record.geometry = DecodeGeometry(decoder);
  const bool empty = record.end_block == record.first_block;
  if (record.end_block < record.first_block || record.tail_tokens > kBlockTokens ||
      empty != (record.tail_tokens == 0)) {
    decoder->Fail();
  }
  return record;
}

void RecordCodec<BlockRun>::Encode(const BlockRun& record, Encoder* encoder) {
  encoder->Varint(record.commit_sequence);
  EncodeList(record.blocks, encoder, [&](const BlockRun::Block& block) {
    encoder->Varint(block.tokens);
    encoder->Digest32(block.hash);
  });
  encoder->Bytes(record.provenance);
}

BlockRun RecordCodec<BlockRun>::Decode(uint8_t, Decoder* decoder) {
  BlockRun record;
  record.commit_sequence = decoder->Varint();
  record.blocks = DecodeList<BlockRun::Block>(1 + kDigestBytes, decoder, [&] {
    BlockRun::Block block;
    block.tokens = decoder->Varint32();
    block.hash = decoder->Digest32();
    if (block.tokens == 0 || block.tokens > kBlockTokens) decoder->Fail();
    return block;
  });
  record.provenance = DecodeString(decoder);
  return record;
}

void RecordCodec<Reclaim>::Encode(const Reclaim& record, Encoder* encoder) {
  encoder->Varint(static_cast<uint64_t>(record.family));
  encoder->Bytes(record.begin);
  encoder->Bytes(record.end);
}

Reclaim RecordCodec<Reclaim>::Decode(uint8_t, Decoder* decoder) {
  Reclaim record;
  record.family = DecodeEnum(ColumnFamily::kCatalog, ColumnFamily::kDocument, decoder);
  record.begin = DecodeString(decoder);
  record.end = DecodeString(decoder);
  return record;
}

void RecordCodec<HashEntry>::Encode(const HashEntry& record, Encoder* encoder) {
  encoder->Varint(record.lineage);
  encoder->Varint(record.block);
}

HashEntry RecordCodec<HashEntry>::Decode(uint8_t, Decoder* decoder) {
  HashEntry record;
  record.lineage = decoder->Varint();
  record.block = decoder->Varint32();
  return record;
}

}  // namespace lectern::storage
