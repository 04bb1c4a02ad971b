#include "storage/lineage_ledger.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "storage/fail_point.h"
namespace lectern::storage {
namespace {

// Hashes are looked up so many at a time: a miss ends the search, so larger batches would read in
// vain.
constexpr size_t kLookupBatch = 256;

absl::Status NoLineage(uint64_t lineage) {
  return absl::NotFoundError(
      fmt::format("lineage {} is not stored: its blocks were evicted or deleted", lineage));
}

// Tensor bytes of one block, all layers.
size_t BlockBytes(const Geometry& geometry, uint32_t tokens) {
  return geometry.layers * geometry.KvBytes(tokens) +
         static_cast<size_t>(geometry.IndexedLayers()) * geometry.IndexBytes(tokens);
}

size_t DataBytes(const Geometry& geometry, std::span<const BlockInput> blocks) {
  size_t bytes = 0;
  for (const BlockInput& block : blocks) bytes += BlockBytes(geometry, block.tokens);
  return bytes;
}

}  // namespace

std::string EncodeKv(const Geometry& geometry, const BlockInput& block, uint16_t layer,
                     uint64_t sequence, std::string_view key) {
  const size_t slice_bytes = geometry.KvSliceBytes(block.tokens);
  const size_t part_bytes = slice_bytes / 2;  // K or V of one head
  const size_t part_stride = size_t{2} * block.token_capacity * geometry.head_dim;
  DataHeader header;
  header.kind = RecordKind::kKv;
  header.payload_bytes = static_cast<uint32_t>(slice_bytes * geometry.kv_heads);
  header.commit_sequence = sequence;
  header.hash = block.hash;
  header.tokens = block.tokens;
  header.slices = geometry.kv_heads;
  header.row_elements = geometry.head_dim;
  std::string value(DataPayloadOffset(header.slices) + header.payload_bytes, '\0');
  char* out = value.data() + DataPayloadOffset(header.slices);
  for (size_t part = 0; part < size_t{2} * geometry.kv_heads; ++part) {
    std::memcpy(out, block.kv[layer] + part * part_stride, part_bytes);
    out += part_bytes;
  }
  const std::vector<uint32_t> slices(geometry.kv_heads, static_cast<uint32_t>(slice_bytes));
  SealDataRecord(header, ColumnFamily::kKv, key, slices, &value);
  return value;
}

std::string EncodeIndexRun(const Geometry& geometry, std::span<const BlockInput> blocks,
                           uint16_t layer, uint64_t sequence, std::string_view key) {
  DataHeader header;
  header.kind = RecordKind::kIndexBf16;
  header.commit_sequence = sequence;
  header.hash = blocks.back().hash;
  header.slices = static_cast<uint16_t>(blocks.size());
  header.row_elements = geometry.index_dim;
  std::vector<uint32_t> slices;
  for (const BlockInput& block : blocks) {
    slices.push_back(static_cast<uint32_t>(geometry.IndexBytes(block.tokens)));
    header.tokens += block.tokens;
    header.payload_bytes += slices.back();
  }
  std::string value(DataPayloadOffset(header.slices) + header.payload_bytes, '\0');
  char* out = value.data() + DataPayloadOffset(header.slices);
  for (size_t i = 0; i < blocks.size(); ++i) {
    std::memcpy(out, blocks[i].index_keys[layer], slices[i]);
    out += slices[i];
  }
  SealDataRecord(header, ColumnFamily::kIndexKeys, key, slices, &value);
  return value;
}

absl::StatusOr<Lineage> LineageLedger::LoadLive(uint64_t lineage) const {
  absl::StatusOr<Lineage> record =
      LoadRecord<Lineage>(state_->store(), ObjectKey(KeySpace::kLineage, lineage));
  if (absl::IsNotFound(record.status()) || (record.ok() && record->state != LineageState::kLive)) {
    return NoLineage(lineage);
  }
  return record;
}

absl::StatusOr<std::vector<std::pair<uint32_t, BlockRun>>> LineageLedger::LoadRuns(
    uint64_t lineage, uint32_t end_block) const {
  constexpr size_t kFirstBlockOffset = 1 + sizeof(uint64_t);
  std::vector<std::pair<uint32_t, BlockRun>> runs;
  std::optional<uint32_t> expected;
  auto cursor = state_->store().NewCursor(ColumnFamily::kCatalog, BlockRunKey(lineage, 0),
                                          BlockRunKey(lineage, end_block));
  for (; cursor->Valid(); cursor->Next()) {
    const uint32_t first_block = KeyNumber32(cursor->key(), kFirstBlockOffset);
    absl::StatusOr<BlockRun> run = ParseRecord<BlockRun>(cursor->key(), cursor->value());
    if (!run.ok()) return run.status();
    if (run->blocks.empty() || (expected.has_value() && first_block != *expected)) {
      return DamagedRecord(RecordKind::kBlockRun, ColumnFamily::kCatalog, cursor->key(),
                           "does not follow the run before it");
    }
    expected = first_block + static_cast<uint32_t>(run->blocks.size());
    runs.emplace_back(first_block, *std::move(run));
  }
  if (!cursor->status().ok()) return cursor->status();
  return runs;
}

absl::StatusOr<std::vector<Segment>> LineageLedger::LookupPrefix(
    uint64_t tenant_uid, std::span<const BlockHash> hashes) const {
  std::vector<Segment> segments;
  std::map<uint64_t, std::optional<Lineage>> lineages;
  size_t block = 0;
  bool miss = false;
  while (block < hashes.size() && !miss) {
    const size_t count = std::min(kLookupBatch, hashes.size() - block);
    std::vector<std::string> keys;
    for (size_t i = 0; i < count; ++i) keys.push_back(HashKey(tenant_uid, hashes[block + i]));
    std::vector<PinnedValue> values(count);
    const std::vector<absl::Status> statuses =
        state_->store().MultiGet(ColumnFamily::kHash, keys, values);
    for (size_t i = 0; i < count && !miss; ++i, ++block) {
      if (absl::IsNotFound(statuses[i])) {
        miss = true;
        break;
      }
      if (!statuses[i].ok()) return statuses[i];
      absl::StatusOr<HashEntry> entry = ParseRecord<HashEntry>(keys[i], values[i].view());
      if (!entry.ok()) return entry.status();
      auto [lineage, inserted] = lineages.try_emplace(entry->lineage);
      if (inserted) {
        absl::StatusOr<Lineage> record = LoadLive(entry->lineage);
        if (record.ok()) {
          lineage->second = *std::move(record);
        } else if (!absl::IsNotFound(record.status())) {
          return record.status();
        }
      }
      // An entry of a lineage that is going, or of another position, is no hit.
      if (!lineage->second.has_value() || lineage->second->tenant_uid != tenant_uid ||
          entry->block != block || entry->block >= lineage->second->end_block) {
        miss = true;
        break;
      }
      if (segments.empty() || segments.back().lineage != entry->lineage) {
        segments.push_back({entry->lineage, entry->block, 0});
      }
      ++segments.back().block_count;
    }
  }
  counters_.hash_lookups += hashes.size();
  counters_.hash_hits += block;
  return segments;
}

uint64_t LineageLedger::Reserve(Transaction* transaction, uint64_t tenant_uid,
                                const Geometry& geometry, uint32_t first_block) {
  const uint64_t uid = transaction->NewLineage();
  Lineage lineage;
  lineage.tenant_uid = tenant_uid;
  lineage.first_block = first_block;
  lineage.end_block = first_block;
  lineage.geometry = geometry;
  PutRecord(&transaction->batch(), ObjectKey(KeySpace::kLineage, uid), lineage);
  return uid;
}

absl::Status LineageLedger::CheckBatch(uint64_t uid, const Lineage& lineage,
                                       const BlockBatch& batch) const {
  const Geometry& geometry = lineage.geometry;
  const bool replaces_tail =
      lineage.has_partial_tail() && batch.first_block + 1 == lineage.end_block;
  if (!replaces_tail && batch.first_block != lineage.end_block) {
    return absl::FailedPreconditionError(
        fmt::format("lineage {} ends at block {}: a commit cannot begin at block {}", uid,
                    lineage.end_block, batch.first_block));
  }
  if (!replaces_tail && lineage.has_partial_tail()) {
    return absl::FailedPreconditionError(
        fmt::format("the last block of lineage {} has {} tokens: a commit must begin with it", uid,
                    lineage.tail_tokens));
  }
  if (batch.blocks.empty() || batch.provenance.size() > kMaxProvenanceBytes ||
      batch.blocks.size() > UINT32_MAX - batch.first_block) {
    return absl::InvalidArgumentError("a commit needs blocks, and a short provenance");
  }
  if (replaces_tail && batch.blocks.front().tokens < lineage.tail_tokens) {
    return absl::FailedPreconditionError(
        fmt::format("the last block of lineage {} has {} tokens and cannot shrink to {}", uid,
                    lineage.tail_tokens, batch.blocks.front().tokens));
  }
  for (size_t i = 0; i < batch.blocks.size(); ++i) {
    const BlockInput& block = batch.blocks[i];
    const bool last = i + 1 == batch.blocks.size();
    bool valid = block.tokens >= 1 && block.tokens <= kBlockTokens &&
                 (last || block.tokens == kBlockTokens) && block.token_capacity >= block.tokens &&
                 block.kv.size() == geometry.layers &&
                 (block.index_keys.size() == geometry.layers ||
                  (block.index_keys.empty() && geometry.IndexedLayers() == 0));
    for (size_t layer = 0; valid && layer < geometry.layers; ++layer) {
      valid = block.kv[layer] != nullptr &&
              (geometry.indexed[layer] == 0 || block.index_keys[layer] != nullptr);
    }
    if (!valid) {
      return absl::InvalidArgumentError(
          fmt::format("block {} of a commit to lineage {} does not fit its geometry",
                      batch.first_block + i, uid));
    }
  }
  return absl::OkStatus();
}

absl::Status LineageLedger::WriteRun(PreparedBlocks* prepared, const BlockBatch& batch,
                                     uint32_t first, uint32_t count, uint64_t sequence,
                                     BulkLoad* bulk) {
  const Geometry& geometry = prepared->before.geometry;
  const uint64_t tenant = prepared->before.tenant_uid;
  const std::span<const BlockInput> blocks = batch.blocks.subspan(first, count);
  const uint32_t first_block = batch.first_block + first;
  const auto write = [&](ColumnFamily family, std::string key, std::string value) {
    if (bulk != nullptr) return bulk->Add(family, key, value);
    prepared->data.Put(family, std::move(key), std::move(value));
    return absl::OkStatus();
  };
  for (uint32_t i = 0; i < count; ++i) {
    for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
      std::string key = KvKey(tenant, prepared->lineage, first_block + i, layer);
      std::string value = EncodeKv(geometry, blocks[i], layer, sequence, key);
      prepared->kv_bytes += value.size();
      if (absl::Status status = write(ColumnFamily::kKv, std::move(key), std::move(value));
          !status.ok()) {
        return status;
      }
    }
  }
  for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
    if (geometry.indexed[layer] == 0) continue;
    std::string key =
        IndexKey(tenant, prepared->lineage, RecordKind::kIndexBf16, first_block, layer);
    std::string value = EncodeIndexRun(geometry, blocks, layer, sequence, key);
    prepared->index_bytes += value.size();
    if (absl::Status status = write(ColumnFamily::kIndexKeys, std::move(key), std::move(value));
        !status.ok()) {
      return status;
    }
  }
  BlockRun run;
  run.commit_sequence = sequence;
  run.provenance = batch.provenance;
  for (const BlockInput& block : blocks) run.blocks.push_back({block.tokens, block.hash});
  prepared->runs.emplace_back(first_block, std::move(run));
  return absl::OkStatus();
}

absl::StatusOr<PreparedBlocks> LineageLedger::Prepare(uint64_t lineage, const BlockBatch& batch) {
  PreparedBlocks prepared;
  prepared.lineage = lineage;
  prepared.pin = LineagePin(state_, lineage);
  absl::StatusOr<Lineage> record = LoadLive(lineage);
  if (!record.ok()) return record.status();
  prepared.before = *std::move(record);
  if (absl::Status status = CheckBatch(lineage, prepared.before, batch); !status.ok())
    return status;

  uint64_t sequence = Transaction(state_).NewSequence();
  const bool replaces_tail = batch.first_block < prepared.before.end_block;
  const bool large = DataBytes(prepared.before.geometry, batch.blocks) > kSmallCommitBytes;
  std::unique_ptr<BulkLoad> bulk;
  if (large) {
    absl::StatusOr<std::unique_ptr<BulkLoad>> load = state_->store().NewBulkLoad();
    if (!load.ok()) return load.status();
    bulk = *std::move(load);
    LECTERN_FAIL_POINT(kCommitBulkBegun);
  }
  const auto total = static_cast<uint32_t>(batch.blocks.size());
  for (uint32_t first = 0; first < total;) {
    // A replaced block must change together with the directory, so it goes through the log; a
    // partial block is a run of its own, so that it can be replaced.
    const bool replaced = first == 0 && replaces_tail;
    uint32_t count = replaced ? 1 : std::min(kMaxRunBlocks, total - first);
    if (count > 1 && batch.blocks[first + count - 1].tokens < kBlockTokens) --count;
    absl::Status status =
        WriteRun(&prepared, batch, first, count, sequence, replaced ? nullptr : bulk.get());
    if (!status.ok()) return status;
    first += count;
  }
  if (bulk != nullptr) {
    LECTERN_FAIL_POINT(kCommitBulkIngest);
    if (absl::Status status = bulk->Commit(); !status.ok()) return status;
    LECTERN_FAIL_POINT(kCommitBulkIngested);
  } else {
    LECTERN_FAIL_POINT(kCommitSmallEncoded);
  }
  prepared.after = prepared.before;
  prepared.after.end_block = batch.first_block + total;
  prepared.after.tail_tokens = batch.blocks.back().tokens;
  prepared.after.bytes += DataBytes(prepared.before.geometry, batch.blocks);
  if (replaces_tail) {
    prepared.after.bytes -= BlockBytes(prepared.before.geometry, prepared.before.tail_tokens);
  }
  return prepared;
}

absl::Status LineageLedger::Publish(Transaction* transaction, PreparedBlocks* prepared,
                                    bool share) {
  absl::StatusOr<Lineage> now = LoadLive(prepared->lineage);
  if (!now.ok()) return now.status();
  if (*now != prepared->before) {
    return absl::FailedPreconditionError(
        fmt::format("lineage {} was extended by another commit", prepared->lineage));
  }
  for (const Batch::Operation& operation : prepared->data.operations()) {
    transaction->batch().Put(operation.family, operation.key, operation.value);
  }
  for (const auto& [first_block, run] : prepared->runs) {
    PutRecord(&transaction->batch(), BlockRunKey(prepared->lineage, first_block), run);
    counters_.blocks_written += run.blocks.size();
  }
  PutRecord(&transaction->batch(), ObjectKey(KeySpace::kLineage, prepared->lineage),
            prepared->after);
  transaction->KeepCounters();  // the commit sequence, drawn in phase one
  counters_.kv_bytes_written += prepared->kv_bytes;
  counters_.index_bytes_written += prepared->index_bytes;
  return share ? ShareHashes(transaction, *prepared) : absl::OkStatus();
}

absl::Status LineageLedger::ShareHashes(Transaction* transaction, const PreparedBlocks& prepared) {
  std::vector<std::string> keys;
  std::vector<uint32_t> blocks;
  for (const auto& [first_block, run] : prepared.runs) {
    for (uint32_t i = 0; i < run.blocks.size(); ++i) {
      if (run.blocks[i].tokens < kBlockTokens) continue;
      keys.push_back(HashKey(prepared.before.tenant_uid, run.blocks[i].hash));
      blocks.push_back(first_block + i);
    }
  }
  std::vector<PinnedValue> values(keys.size());
  const std::vector<absl::Status> statuses =
      state_->store().MultiGet(ColumnFamily::kHash, keys, values);
  std::map<uint64_t, bool> live;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!statuses[i].ok() && !absl::IsNotFound(statuses[i])) return statuses[i];
    if (statuses[i].ok()) {
      absl::StatusOr<HashEntry> entry = ParseRecord<HashEntry>(keys[i], values[i].view());
      if (!entry.ok()) return entry.status();
      auto [found, inserted] = live.try_emplace(entry->lineage);
      if (inserted) {
        const absl::Status status = LoadLive(entry->lineage).status();
        if (!status.ok() && !absl::IsNotFound(status)) return status;
        found->second = status.ok();
      }
      if (found->second) continue;  // first writer wins
    }
    PutRecord(&transaction->batch(), keys[i], HashEntry{prepared.lineage, blocks[i]});
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> LineageLedger::DropOrphans() {
  uint64_t found = 0;
  const std::string prefix(1, static_cast<char>(KeySpace::kLineage));
  auto cursor = state_->store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    const uint64_t uid = KeyNumber64(cursor->key(), 1);
    absl::StatusOr<Lineage> lineage = ParseRecord<Lineage>(cursor->key(), cursor->value());
    if (!lineage.ok()) return lineage.status();
    const uint64_t tenant = lineage->tenant_uid;
    const std::string lineage_end = PrefixEnd(LineagePrefix(tenant, uid));
    const std::string kv_begin = KvBlockPrefix(tenant, uid, lineage->end_block);
    // K/V and index keys were ingested together: one seek tells of both.
    auto orphans = state_->store().NewCursor(ColumnFamily::kKv, kv_begin, lineage_end);
    if (!orphans->status().ok()) return orphans->status();
    if (!orphans->Valid()) continue;
    ++found;
    constexpr RecordKind kIndexKind = RecordKind::kIndexBf16;
    const Reclaim ranges[] = {
        {ColumnFamily::kKv, kv_begin, lineage_end},
        {ColumnFamily::kIndexKeys, IndexRunPrefix(tenant, uid, kIndexKind, lineage->end_block),
         PrefixEnd(IndexKindPrefix(tenant, uid, kIndexKind))}};
    Batch batch;
    for (const Reclaim& range : ranges) batch.DeleteRange(range.family, range.begin, range.end);
    if (absl::Status status = state_->store().Write(batch, Durability::kSynced); !status.ok()) {
      return status;
    }
    LECTERN_FAIL_POINT(kOpenOrphansDeleted);
    // Now, and not by a later CollectGarbage: a resumed ingest will write the same keys again.
    for (const Reclaim& range : ranges) {
      absl::Status status = state_->store().ReclaimRange(range.family, range.begin, range.end);
      if (!status.ok()) return status;
    }
  }
  if (!cursor->status().ok()) return cursor->status();
  return found;
}

absl::StatusOr<LineageLedger::PurgeReport> LineageLedger::PurgeUnreferenced() {
  PurgeReport report;
  const std::string prefix(1, static_cast<char>(KeySpace::kLineage));
  auto cursor = state_->store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Lineage> lineage = ParseRecord<Lineage>(cursor->key(), cursor->value());
    if (!lineage.ok()) return lineage.status();
    if (lineage->state != LineageState::kPurging) continue;
    absl::StatusOr<bool> purged = Purge(KeyNumber64(cursor->key(), 1));
    if (!purged.ok()) return purged.status();
    ++(*purged ? report.purged : report.in_use);
  }
  if (!cursor->status().ok()) return cursor->status();
  return report;
}

absl::StatusOr<bool> LineageLedger::Purge(uint64_t lineage) {
  if (state_->IsPinned(lineage)) return false;
  Transaction transaction(state_);
  const std::string lineage_key = ObjectKey(KeySpace::kLineage, lineage);
  absl::StatusOr<Lineage> record = LoadRecord<Lineage>(state_->store(), lineage_key);
  if (!record.ok()) return record.status();
  absl::StatusOr<std::vector<std::pair<uint32_t, BlockRun>>> runs =
      LoadRuns(lineage, record->end_block);
  Batch& batch = transaction.batch();
  std::vector<std::string> keys;
  if (absl::IsDataLoss(runs.status())) {
    // Nobody will read it again. Hash entries that stay name a lineage that is gone: no hits, and
    // overwritten when their blocks are stored anew.
    runs = std::vector<std::pair<uint32_t, BlockRun>>();
    batch.DeleteRange(ColumnFamily::kCatalog, BlockRunKey(lineage, 0),
                      PrefixEnd(ObjectKey(KeySpace::kBlockRun, lineage)));
  }
  if (!runs.ok()) return runs.status();
  for (const auto& [first_block, run] : *runs) {
    batch.Delete(ColumnFamily::kCatalog, BlockRunKey(lineage, first_block));
    for (const BlockRun::Block& block : run.blocks) {
      keys.push_back(HashKey(record->tenant_uid, block.hash));
    }
  }
  std::vector<PinnedValue> values(keys.size());
  const std::vector<absl::Status> statuses =
      state_->store().MultiGet(ColumnFamily::kHash, keys, values);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (absl::IsNotFound(statuses[i])) continue;
    if (!statuses[i].ok()) return statuses[i];
    absl::StatusOr<HashEntry> entry = ParseRecord<HashEntry>(keys[i], values[i].view());
    // An entry that cannot be read helps nobody.
    if (!entry.ok() || entry->lineage == lineage) batch.Delete(ColumnFamily::kHash, keys[i]);
  }
  const std::string begin = LineagePrefix(record->tenant_uid, lineage);
  transaction.DeleteAndReclaim(ColumnFamily::kKv, begin, PrefixEnd(begin));
  transaction.DeleteAndReclaim(ColumnFamily::kIndexKeys, begin, PrefixEnd(begin));
  batch.Delete(ColumnFamily::kCatalog, lineage_key);
  LECTERN_FAIL_POINT(kPurge);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kPurged);
  ++counters_.lineages_purged;
  return true;
}

}  // namespace lectern::storage
