// Blocks on their way in: a lineage, run by run.
#include <algorithm>

#include "storage/corpus_import.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

// Blocks become durable when so much of them has come, or a run ends.
constexpr size_t kCommitBytes = 32 << 20;

}  // namespace

absl::Status StoredCorpusImport::ComputeHashes() {
  if (std::exchange(hashed_, true)) return absl::OkStatus();
  for (const auto& [source, generation] : manifest_.generations) {
    const Generation translated = Translated(generation);
    for (uint32_t i = 0; i < generation.contexts.size(); ++i) {
      const GenerationContext& context = generation.contexts[i];
      if (context.segments.empty()) continue;
      absl::StatusOr<std::vector<BlockHash>> hashes = hashes_(translated, i);
      if (!hashes.ok()) return hashes.status();
      for (const Segment& segment : context.segments) {
        if (segment.end_block() > hashes->size()) {
          return absl::DataLossError(
              fmt::format("a generation's layout has tokens for {} blocks, and its context {}",
                          hashes->size(), segment.end_block()));
        }
        for (uint32_t block = segment.first_block; block < segment.end_block(); ++block) {
          block_hashes_[{segment.lineage, block}] = (*hashes)[block];
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::AddLineage(const TransferRecord& record) {
  if (absl::Status status = Reserve(); !status.ok()) return status;
  absl::StatusOr<Lineage> lineage = ParseRecord<Lineage>(record.key, record.value);
  if (!lineage.ok()) return lineage.status();
  if (absl::Status status = Close(); !status.ok()) return status;
  if (absl::Status status = ComputeHashes(); !status.ok()) return status;
  if (record.key.size() != kSecondOffset) return OutOfPlace(record, "its key is too short");
  const uint64_t source = KeyNumber64(record.key, kNumberOffset);
  const auto found = lineages_.find(source);
  if (found == lineages_.end() || lineage->tenant_uid != manifest_.corpus->tenant_uid) {
    return OutOfPlace(record, "of blocks that the corpus does not have");
  }
  absl::StatusOr<Lineage> here = ledger_->LoadLive(found->second);
  if (!here.ok()) return here.status();
  if (here->geometry != lineage->geometry) return OutOfPlace(record, "of another geometry");
  lineage_ = {source, found->second, here->geometry,
              here->end_block - (here->has_partial_tail() ? 1 : 0), std::nullopt};
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::AddRun(const TransferRecord& record) {
  absl::StatusOr<BlockRun> run = ParseRecord<BlockRun>(record.key, record.value);
  if (!run.ok()) return run.status();
  if (absl::Status status = CommitBlocks(); !status.ok()) return status;
  const uint32_t first_block = KeyNumber32(record.key, kSecondOffset);
  if (lineage_.uid == 0 || KeyNumber64(record.key, kNumberOffset) != lineage_.source ||
      first_block > lineage_.next_block ||
      first_block + run->blocks.size() <= lineage_.next_block) {
    return OutOfPlace(record, "it does not follow the blocks before it");
  }
  lineage_.run.emplace();
  lineage_.run->first_block = first_block;
  lineage_.run->begin = lineage_.next_block;
  lineage_.run->run = *std::move(run);
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::AddIndexKeys(const TransferRecord& record) {
  if (!lineage_.run) return OutOfPlace(record, "of no run of blocks");
  IncomingRun& run = *lineage_.run;
  absl::StatusOr<DataRecord> opened =
      DataRecord::Open(RecordKind::kIndexBf16, ColumnFamily::kIndexKeys, record.key, record.value);
  if (!opened.ok()) return opened.status();
  const DataHeader& header = opened->header();
  const uint64_t tenant = manifest_.corpus->tenant_uid;
  uint16_t layer = 0;
  while (layer < lineage_.geometry.layers &&
         record.key !=
             IndexKey(tenant, lineage_.source, RecordKind::kIndexBf16, run.first_block, layer)) {
    ++layer;
  }
  if (layer == lineage_.geometry.layers || lineage_.geometry.indexed[layer] == 0 ||
      header.commit_sequence != run.run.commit_sequence ||
      header.hash != run.run.blocks.back().hash || header.slices != run.run.blocks.size() ||
      header.row_elements != lineage_.geometry.index_dim) {
    return OutOfPlace(record, "it is not what its directory names");
  }
  size_t offset = 0;
  for (size_t i = 0; i < run.run.blocks.size(); ++i) {
    const size_t size = lineage_.geometry.IndexBytes(run.run.blocks[i].tokens);
    if (absl::Status status = opened->Slice(i, offset, size).status(); !status.ok()) return status;
    offset += size;
  }
  if (offset != opened->payload().size()) return OutOfPlace(record, "it has another size");
  run.index_keys[layer] = record.value;
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::AddKv(const TransferRecord& record) {
  if (!lineage_.run) return OutOfPlace(record, "of no run of blocks");
  IncomingRun& run = *lineage_.run;
  absl::StatusOr<DataRecord> opened =
      DataRecord::Open(RecordKind::kKv, ColumnFamily::kKv, record.key, record.value);
  if (!opened.ok()) return opened.status();
  const Geometry& geometry = lineage_.geometry;
  const auto layer = static_cast<uint16_t>(run.kv.size() % geometry.layers);
  const uint32_t block = run.begin + static_cast<uint32_t>(run.kv.size() / geometry.layers);
  const uint32_t position = block - run.first_block;
  const DataHeader& header = opened->header();
  if (position >= run.run.blocks.size() ||
      record.key != KvKey(manifest_.corpus->tenant_uid, lineage_.source, block, layer) ||
      header.commit_sequence != run.run.commit_sequence ||
      header.hash != run.run.blocks[position].hash ||
      header.tokens != run.run.blocks[position].tokens || header.slices != geometry.kv_heads ||
      header.row_elements != geometry.head_dim || header.element_bytes != 2 ||
      header.payload_bytes != geometry.KvBytes(header.tokens)) {
    return OutOfPlace(record, "it is not what its directory names");
  }
  const size_t slice = geometry.KvSliceBytes(header.tokens);
  for (size_t head = 0; head < geometry.kv_heads; ++head) {
    if (absl::Status status = opened->Slice(head, head * slice, slice).status(); !status.ok()) {
      return status;
    }
  }
  run.bytes += record.value.size();
  run.kv.push_back(record.value);
  const bool complete = run.kv.size() % geometry.layers == 0;
  return complete && run.bytes >= kCommitBytes ? CommitBlocks() : absl::OkStatus();
}

absl::Status StoredCorpusImport::CommitBlocks() {
  if (!lineage_.run || lineage_.run->kv.empty()) return absl::OkStatus();
  IncomingRun& run = *lineage_.run;
  const Geometry& geometry = lineage_.geometry;
  if (run.kv.size() % geometry.layers != 0 ||
      run.index_keys.size() != static_cast<size_t>(geometry.IndexedLayers())) {
    return absl::DataLossError("a block came without all of its layers");
  }
  const size_t count = run.kv.size() / geometry.layers;
  const size_t position = run.begin - run.first_block;
  size_t index_tokens = 0;  // before the first block
  for (size_t i = 0; i < position; ++i) index_tokens += run.run.blocks[i].tokens;
  const size_t index_offset = DataPayloadOffset(run.run.blocks.size());
  const auto bytes = [](const std::string& value, size_t offset) {
    return reinterpret_cast<const std::byte*>(value.data()) + offset;
  };
  std::vector<std::vector<const std::byte*>> kv(count);
  std::vector<std::vector<const std::byte*>> index_keys(count);
  std::vector<BlockInput> blocks(count);
  bool share = true;
  for (size_t i = 0; i < count; ++i) {
    const BlockRun::Block& stored = run.run.blocks[position + i];
    const auto hash = block_hashes_.find({lineage_.source, run.begin + static_cast<uint32_t>(i)});
    share = share && hash != block_hashes_.end();
    kv[i].resize(geometry.layers);
    index_keys[i].assign(geometry.layers, nullptr);
    for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
      kv[i][layer] =
          bytes(run.kv[i * geometry.layers + layer], DataPayloadOffset(geometry.kv_heads));
      if (geometry.indexed[layer] == 0) continue;
      index_keys[i][layer] =
          bytes(run.index_keys[layer],
                index_offset + geometry.IndexBytes(static_cast<uint32_t>(index_tokens)));
    }
    index_tokens += stored.tokens;
    blocks[i] = {.tokens = stored.tokens,
                 .hash = hash == block_hashes_.end() ? stored.hash : hash->second,
                 .kv = kv[i],
                 .token_capacity = stored.tokens,
                 .index_keys = index_keys[i]};
  }
  LECTERN_FAIL_POINT(kImportBlocks);
  absl::StatusOr<PreparedBlocks> prepared = ledger_->Prepare(
      lineage_.uid, {.first_block = run.begin, .blocks = blocks, .provenance = run.run.provenance});
  if (!prepared.ok()) return prepared.status();
  Transaction transaction(state_);
  if (absl::Status status = ledger_->Publish(&transaction, &*prepared, share); !status.ok()) {
    return status;
  }
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  run.begin += static_cast<uint32_t>(count);
  run.kv.clear();
  run.bytes = 0;
  lineage_.next_block = run.begin;
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::EndLineage() {
  if (lineage_.uid == 0) return absl::OkStatus();
  if (absl::Status status = CommitBlocks(); !status.ok()) return status;
  lineage_ = {};
  return absl::OkStatus();
}

}  // namespace lectern::storage
