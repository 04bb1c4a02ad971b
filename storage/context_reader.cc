#include "storage/context_reader.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

// How often a block that is being replaced while we read it is read again. A session replaces its
// tail once a turn.
constexpr int kReplacedReadAttempts = 8;

// A read that failed for a reason that may pass is tried so often, after a pause that grows
// fourfold: 20, 80, 320 milliseconds. Then whoever asked is told, and may do without.
constexpr int kReadAttempts = 4;
constexpr std::chrono::milliseconds kFirstPause(20);
// A read that took longer is counted as slow: the disk, not the load, is then what to look at.
constexpr std::chrono::seconds kSlowRead(1);

// Work units of a whole-context read are about so many runs: enough for every thread, long enough
// for read-ahead.
constexpr size_t kRunsPerScan = 32;
constexpr size_t kScanReadAhead = 4 << 20;

// Adds the time between construction and destruction to a counter.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<uint64_t>* counter) : counter_(counter) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    *counter_ += static_cast<uint64_t>(
        std::chrono::nanoseconds(std::chrono::steady_clock::now() - start_).count());
  }

 private:
  std::atomic<uint64_t>* counter_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// A stored run as far as it is part of the context.
struct RunView {
  uint64_t lineage = 0;
  uint32_t first_block = 0;  // of the stored run, part of its key
  uint32_t begin = 0;        // blocks [begin, end) are the context's
  uint32_t end = 0;
  BlockRun run;
};

class LineageContextReader final : public ContextReader {
 public:
  LineageContextReader(const LineageLedger& ledger, ReaderPool* pool, uint64_t tenant_uid,
                       uint64_t token_count, Geometry geometry)
      : ledger_(ledger),
        pool_(pool),
        tenant_uid_(tenant_uid),
        token_count_(token_count),
        geometry_(std::move(geometry)) {}

  absl::Status AddSegment(const Segment& segment);
  absl::Status CheckTail() const;

  const Geometry& geometry() const override { return geometry_; }
  uint64_t token_count() const override { return token_count_; }
  uint32_t block_count() const override { return static_cast<uint32_t>(run_of_block_.size()); }
  const std::vector<Segment>& segments() const override { return segments_; }
  absl::StatusOr<BlockInfo> Block(uint32_t block) const override;

  absl::Status ReadIndexKeys(uint16_t layer, uint32_t first_block, uint32_t count,
                             std::span<std::byte> out) const override;
  absl::Status ReadAllIndexKeys(std::span<std::byte* const> out) const override;
  absl::Status ReadKv(const KvRequest& request) const override;
  absl::Status ReadKvBatch(std::span<const KvRequest> requests,
                           std::span<absl::Status> statuses) const override;

 private:
  KeyValueStore& store() const { return ledger_.state().store(); }
  const RunView& RunOf(uint32_t block) const { return runs_[run_of_block_[block]]; }
  const BlockRun::Block& Stored(uint32_t block) const {
    const RunView& view = RunOf(block);
    return view.run.blocks[block - view.first_block];
  }
  // Tokens of `block` that belong to the context.
  uint32_t Tokens(uint32_t block) const {
    return static_cast<uint32_t>(
        std::min<uint64_t>(kBlockTokens, token_count_ - uint64_t{block} * kBlockTokens));
  }

  // OK: `header` is of the commit the directory names. kAborted: the block was replaced since; read
  // again.
  absl::Status CheckCurrent(const RunView& view, uint32_t block, const DataHeader& header,
                            ColumnFamily family, std::string_view key) const;
  template <typename Read>
  absl::Status ReadCurrent(const Read& read) const;

  absl::Status DeliverKv(const KvRequest& request, std::string_view key,
                         std::string_view value) const;
  // The part of a run's record that belongs to blocks [first, end).
  absl::Status DeliverIndexRun(const RunView& view, uint16_t layer, uint32_t first, uint32_t end,
                               std::string_view key, std::string_view value, std::byte* out) const;
  absl::Status ReadIndexRun(const RunView& view, uint16_t layer, uint32_t first, uint32_t end,
                            std::byte* out) const;
  absl::Status ScanIndexRuns(size_t first_run, size_t end_run,
                             std::span<std::byte* const> out) const;

  // A record that should be there and is not is as bad as a damaged one.
  static absl::Status MissingIsDamage(absl::Status status, RecordKind kind, ColumnFamily family,
                                      std::string_view key) {
    return absl::IsNotFound(status) ? DamagedRecord(kind, family, key, "missing") : status;
  }
  absl::Status Counted(absl::Status status) const {
    if (absl::IsDataLoss(status)) ++ledger_.counters().damaged_records;
    return status;
  }

  const LineageLedger& ledger_;
  ReaderPool* const pool_;
  const uint64_t tenant_uid_;
  const uint64_t token_count_;
  const Geometry geometry_;
  std::vector<Segment> segments_;
  std::vector<LineagePin> pins_;
  std::vector<RunView> runs_;
  std::vector<uint32_t> run_of_block_;  // index into runs_
};

absl::Status LineageContextReader::AddSegment(const Segment& segment) {
  if (segment.first_block != block_count() || segment.block_count == 0) {
    return absl::InvalidArgumentError(
        fmt::format("segment of lineage {} covers blocks {} to {} where block {} comes next",
                    segment.lineage, segment.first_block, segment.end_block(), block_count()));
  }
  pins_.emplace_back(&ledger_.state(), segment.lineage);
  absl::StatusOr<Lineage> lineage = ledger_.LoadLive(segment.lineage);
  if (!lineage.ok()) return lineage.status();
  if (lineage->tenant_uid != tenant_uid_) {
    return absl::NotFoundError(fmt::format(
        "lineage {} is not stored: its blocks were evicted or deleted", segment.lineage));
  }
  if (lineage->geometry != geometry_) {
    return absl::InvalidArgumentError(
        fmt::format("lineage {} was written with another cache geometry", segment.lineage));
  }
  if (segment.first_block < lineage->first_block || segment.end_block() > lineage->end_block) {
    return absl::NotFoundError(fmt::format(
        "lineage {} holds blocks {} to {}, not {} to {}", segment.lineage, lineage->first_block,
        lineage->end_block, segment.first_block, segment.end_block()));
  }
  auto runs = ledger_.LoadRuns(segment.lineage, segment.end_block());
  if (!runs.ok()) return runs.status();
  for (auto& [first_block, run] : *runs) {
    const auto run_end = first_block + static_cast<uint32_t>(run.blocks.size());
    if (run_end <= segment.first_block) continue;
    RunView& view = runs_.emplace_back();
    view.lineage = segment.lineage;
    view.first_block = first_block;
    view.begin = std::max(first_block, segment.first_block);
    view.end = std::min(run_end, segment.end_block());
    view.run = std::move(run);
    run_of_block_.resize(run_of_block_.size() + view.end - view.begin,
                         static_cast<uint32_t>(runs_.size() - 1));
  }
  if (block_count() != segment.end_block()) {
    return DamagedRecord(
        RecordKind::kBlockRun, ColumnFamily::kCatalog,
        BlockRunKey(segment.lineage, segment.first_block),
        fmt::format("the directory covers {} of {} blocks", block_count(), segment.end_block()));
  }
  segments_.push_back(segment);
  return absl::OkStatus();
}

absl::Status LineageContextReader::CheckTail() const {
  const uint64_t blocks = (token_count_ + kBlockTokens - 1) / kBlockTokens;
  if (block_count() != blocks) {
    return absl::InvalidArgumentError(fmt::format("{} tokens need {} blocks, the segments have {}",
                                                  token_count_, blocks, block_count()));
  }
  for (uint32_t block = 0; block < block_count(); ++block) {
    if (Stored(block).tokens < Tokens(block)) {
      return absl::InvalidArgumentError(fmt::format("block {} has {} tokens stored, {} asked for",
                                                    block, Stored(block).tokens, Tokens(block)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<BlockInfo> LineageContextReader::Block(uint32_t block) const {
  if (block >= block_count()) {
    return absl::InvalidArgumentError(fmt::format("block {} of {}", block, block_count()));
  }
  return BlockInfo{Tokens(block), Stored(block).hash, RunOf(block).lineage};
}

absl::Status LineageContextReader::CheckCurrent(const RunView& view, uint32_t block,
                                                const DataHeader& header, ColumnFamily family,
                                                std::string_view key) const {
  // An index run carries the hash of its last block.
  const size_t position =
      family == ColumnFamily::kKv ? block - view.first_block : view.run.blocks.size() - 1;
  if (header.commit_sequence == view.run.commit_sequence) {
    if (header.hash == view.run.blocks[position].hash) return absl::OkStatus();
    return DamagedRecord(header.kind, family, key,
                         "belongs to other tokens than the directory says");
  }
  // Only a partial block is ever replaced. Ask the directory whether this one was.
  absl::StatusOr<BlockRun> now =
      LoadRecord<BlockRun>(store(), BlockRunKey(view.lineage, view.first_block));
  if (!now.ok() && !absl::IsNotFound(now.status())) return now.status();
  if (!now.ok() || now->commit_sequence == view.run.commit_sequence || now->blocks.size() != 1 ||
      view.run.blocks.size() != 1 || now->blocks[0].tokens < view.run.blocks[0].tokens ||
      now->commit_sequence < header.commit_sequence) {
    return DamagedRecord(header.kind, family, key,
                         fmt::format("is of commit {}, and the directory names {}: a stale copy",
                                     header.commit_sequence, view.run.commit_sequence));
  }
  if (now->commit_sequence != header.commit_sequence) return absl::AbortedError("replaced");
  if (now->blocks[0].hash == header.hash) return absl::OkStatus();
  return DamagedRecord(header.kind, family, key, "belongs to other tokens than the directory says");
}

template <typename Read>
absl::Status LineageContextReader::ReadCurrent(const Read& read) const {
  Stopwatch watch(&ledger_.counters().read_nanoseconds);
  absl::Status status;
  int replaced = 0;
  int failed = 0;
  std::chrono::milliseconds pause = kFirstPause;
  while (replaced < kReplacedReadAttempts) {
    const auto begin = std::chrono::steady_clock::now();
    status = [&]() -> absl::Status {
      LECTERN_FAIL_POINT(kBlockRead);
      return read();
    }();
    if (std::chrono::steady_clock::now() - begin > kSlowRead) ++ledger_.counters().slow_reads;
    if (absl::IsAborted(status)) {
      ++replaced;
    } else if (absl::IsUnavailable(status) && ++failed < kReadAttempts) {
      ++ledger_.counters().read_retries;
      std::this_thread::sleep_for(pause);
      pause *= 4;
    } else {
      return Counted(status);
    }
  }
  return Counted(absl::DataLossError(
      "a block's records stay older than its directory: stale copies were put in their place"));
}

absl::Status LineageContextReader::ReadKv(const KvRequest& request) const {
  const uint32_t heads =
      request.head_count != 0 ? request.head_count : geometry_.kv_heads - request.first_head;
  if (request.layer >= geometry_.layers || request.block >= block_count() ||
      request.first_head >= geometry_.kv_heads || request.first_head + heads > geometry_.kv_heads ||
      request.out == nullptr || request.token_capacity < Tokens(request.block)) {
    return absl::InvalidArgumentError(fmt::format(
        "no K/V of layer {}, block {}, heads {} to {} with room for {} tokens", request.layer,
        request.block, request.first_head, request.first_head + heads, request.token_capacity));
  }
  KvRequest whole = request;
  whole.head_count = static_cast<uint16_t>(heads);
  const std::string key =
      KvKey(tenant_uid_, RunOf(request.block).lineage, request.block, request.layer);
  return ReadCurrent([&] {
    PinnedValue value;
    absl::Status status = store().Get(ColumnFamily::kKv, key, &value);
    if (!status.ok()) return MissingIsDamage(status, RecordKind::kKv, ColumnFamily::kKv, key);
    return DeliverKv(whole, key, value.view());
  });
}

absl::Status LineageContextReader::DeliverKv(const KvRequest& request, std::string_view key,
                                             std::string_view value) const {
  absl::StatusOr<DataRecord> record =
      DataRecord::Open(RecordKind::kKv, ColumnFamily::kKv, key, value);
  if (!record.ok()) return record.status();
  const DataHeader& header = record->header();
  absl::Status status =
      CheckCurrent(RunOf(request.block), request.block, header, ColumnFamily::kKv, key);
  if (!status.ok()) return status;
  const uint32_t tokens = Tokens(request.block);
  const size_t slice_bytes = geometry_.KvSliceBytes(header.tokens);
  if (header.slices != geometry_.kv_heads || header.row_elements != geometry_.head_dim ||
      header.element_bytes != 2 || header.tokens < tokens ||
      header.payload_bytes != slice_bytes * geometry_.kv_heads) {
    return DamagedRecord(RecordKind::kKv, ColumnFamily::kKv, key,
                         "has another shape than its lineage");
  }
  const size_t wanted = geometry_.KvSliceBytes(tokens) / 2;
  const size_t stride = geometry_.KvSliceBytes(request.token_capacity) / 2;
  std::byte* out = request.out;
  for (size_t head = request.first_head; head < size_t{request.first_head} + request.head_count;
       ++head) {
    absl::StatusOr<std::string_view> slice = [&] {
      Stopwatch watch(&ledger_.counters().verify_nanoseconds);
      return record->Slice(head, head * slice_bytes, slice_bytes);
    }();
    if (!slice.ok()) return slice.status();
    for (int part = 0; part < 2; ++part, out += stride) {
      std::memcpy(out, slice->data() + part * (slice_bytes / 2), wanted);
    }
    ledger_.counters().kv_bytes_read += 2 * wanted;
  }
  return absl::OkStatus();
}

absl::Status LineageContextReader::ReadKvBatch(std::span<const KvRequest> requests,
                                               std::span<absl::Status> statuses) const {
  std::vector<absl::Status> own;
  if (statuses.empty()) {
    own.resize(requests.size());
    statuses = own;
  }
  pool_->ParallelFor(requests.size(), [&](size_t i) { statuses[i] = ReadKv(requests[i]); });
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status LineageContextReader::DeliverIndexRun(const RunView& view, uint16_t layer,
                                                   uint32_t first, uint32_t end,
                                                   std::string_view key, std::string_view value,
                                                   std::byte* out) const {
  constexpr ColumnFamily kFamily = ColumnFamily::kIndexKeys;
  absl::StatusOr<DataRecord> record = DataRecord::Open(RecordKind::kIndexBf16, kFamily, key, value);
  if (!record.ok()) return record.status();
  const DataHeader& header = record->header();
  if (absl::Status status = CheckCurrent(view, first, header, kFamily, key); !status.ok())
    return status;
  if (header.slices != view.run.blocks.size() || header.row_elements != geometry_.index_dim ||
      header.element_bytes != 2 || header.payload_bytes != geometry_.IndexBytes(header.tokens)) {
    return DamagedRecord(RecordKind::kIndexBf16, kFamily, key,
                         "has another shape than its lineage");
  }
  for (uint32_t block = first; block < end; ++block) {
    // All blocks of a run but the last are full; a run of one block may have grown since the
    // directory was read.
    const size_t position = block - view.first_block;
    const uint32_t stored = header.slices == 1 ? header.tokens : view.run.blocks[position].tokens;
    absl::StatusOr<std::string_view> slice = [&] {
      Stopwatch watch(&ledger_.counters().verify_nanoseconds);
      return record->Slice(position, position * geometry_.IndexBytes(kBlockTokens),
                           geometry_.IndexBytes(stored));
    }();
    if (!slice.ok()) return slice.status();
    const size_t wanted = geometry_.IndexBytes(Tokens(block));
    if (wanted > slice->size()) {
      return DamagedRecord(RecordKind::kIndexBf16, kFamily, key, "is shorter than its block");
    }
    std::memcpy(out, slice->data(), wanted);
    out += wanted;
    ledger_.counters().index_bytes_read += wanted;
  }
  return absl::OkStatus();
}

absl::Status LineageContextReader::ReadIndexRun(const RunView& view, uint16_t layer, uint32_t first,
                                                uint32_t end, std::byte* out) const {
  const std::string key =
      IndexKey(tenant_uid_, view.lineage, RecordKind::kIndexBf16, view.first_block, layer);
  return ReadCurrent([&] {
    PinnedValue value;
    absl::Status status = store().Get(ColumnFamily::kIndexKeys, key, &value);
    if (!status.ok()) {
      return MissingIsDamage(status, RecordKind::kIndexBf16, ColumnFamily::kIndexKeys, key);
    }
    return DeliverIndexRun(view, layer, first, end, key, value.view(), out);
  });
}

absl::Status LineageContextReader::ReadIndexKeys(uint16_t layer, uint32_t first_block,
                                                 uint32_t count, std::span<std::byte> out) const {
  if (layer >= geometry_.layers || geometry_.indexed[layer] == 0 || first_block > block_count() ||
      count > block_count() - first_block) {
    return absl::InvalidArgumentError(fmt::format("no index keys of layer {}, blocks {} to {}",
                                                  layer, first_block,
                                                  uint64_t{first_block} + count));
  }
  const uint32_t end = first_block + count;
  size_t bytes = 0;
  for (uint32_t block = first_block; block < end; ++block)
    bytes += geometry_.IndexBytes(Tokens(block));
  if (out.size() != bytes) {
    return absl::InvalidArgumentError(
        fmt::format("index keys of blocks {} to {} take {} bytes, not {}", first_block, end, bytes,
                    out.size()));
  }
  for (uint32_t block = first_block; block < end;) {
    const RunView& view = RunOf(block);
    const uint32_t run_end = std::min(view.end, end);
    std::byte* const target =
        out.data() + geometry_.IndexBytes(kBlockTokens) * (block - first_block);
    if (absl::Status status = ReadIndexRun(view, layer, block, run_end, target); !status.ok()) {
      return status;
    }
    block = run_end;
  }
  return absl::OkStatus();
}

absl::Status LineageContextReader::ReadAllIndexKeys(std::span<std::byte* const> out) const {
  if (out.size() != geometry_.layers) {
    return absl::InvalidArgumentError(fmt::format(
        "index keys of {} layers asked for, the model has {}", out.size(), geometry_.layers));
  }
  // Ranges of runs of one lineage: within each, keys ascend in exactly the order of (run, layer).
  std::vector<std::pair<size_t, size_t>> scans;
  for (size_t begin = 0; begin < runs_.size();) {
    size_t end = begin + 1;
    while (end < runs_.size() && end - begin < kRunsPerScan &&
           runs_[end].lineage == runs_[begin].lineage) {
      ++end;
    }
    scans.emplace_back(begin, end);
    begin = end;
  }
  std::vector<absl::Status> statuses(scans.size());
  pool_->ParallelFor(scans.size(), [&](size_t i) {
    statuses[i] = ScanIndexRuns(scans[i].first, scans[i].second, out);
  });
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status LineageContextReader::ScanIndexRuns(size_t first_run, size_t end_run,
                                                 std::span<std::byte* const> out) const {
  Stopwatch watch(&ledger_.counters().read_nanoseconds);
  const auto run_prefix = [&](const RunView& view) {
    return IndexRunPrefix(tenant_uid_, view.lineage, RecordKind::kIndexBf16, view.first_block);
  };
  auto cursor = store().NewCursor(ColumnFamily::kIndexKeys, run_prefix(runs_[first_run]),
                                  PrefixEnd(run_prefix(runs_[end_run - 1])), kScanReadAhead);
  for (size_t i = first_run; i < end_run; ++i) {
    const RunView& view = runs_[i];
    for (uint16_t layer = 0; layer < geometry_.layers; ++layer) {
      if (geometry_.indexed[layer] == 0) continue;
      const std::string key =
          IndexKey(tenant_uid_, view.lineage, RecordKind::kIndexBf16, view.first_block, layer);
      if (!cursor->Valid() || cursor->key() != key) {
        if (!cursor->status().ok()) return Counted(cursor->status());
        return Counted(
            DamagedRecord(RecordKind::kIndexBf16, ColumnFamily::kIndexKeys, key, "missing"));
      }
      if (out[layer] != nullptr) {
        std::byte* const target = out[layer] + geometry_.IndexBytes(kBlockTokens) * view.begin;
        absl::Status status =
            DeliverIndexRun(view, layer, view.begin, view.end, key, cursor->value(), target);
        // The cursor shows one moment; a block replaced around it is read by itself.
        if (absl::IsAborted(status))
          status = ReadIndexRun(view, layer, view.begin, view.end, target);
        if (!status.ok()) return Counted(status);
      }
      cursor->Next();
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ContextReader>> OpenContextReader(
    const LineageLedger& ledger, ReaderPool* pool, uint64_t tenant_uid,
    std::span<const Segment> segments, uint64_t token_count, const Geometry& geometry) {
  if (absl::Status status = geometry.Validate(); !status.ok()) return status;
  auto reader =
      std::make_unique<LineageContextReader>(ledger, pool, tenant_uid, token_count, geometry);
  for (const Segment& segment : segments) {
    if (absl::Status status = reader->AddSegment(segment); !status.ok()) return status;
  }
  if (absl::Status status = reader->CheckTail(); !status.ok()) return status;
  return std::unique_ptr<ContextReader>(std::move(reader));
}

}  // namespace lectern::storage
