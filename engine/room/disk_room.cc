#include "engine/room/disk_room.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"

namespace lectern::engine {
namespace {

// Files are unlinked by RocksDB's own threads soon after nothing refers to them; a scan that holds
// one does so for milliseconds. After this long we go on with what there is.
constexpr std::chrono::milliseconds kUnlinkPatience(5000);
constexpr std::chrono::milliseconds kReaderPatience(500);
constexpr std::chrono::milliseconds kPoll(5);

// Bytes of lineages that go when all of `generations` do.
int64_t FreedBytes(const std::vector<Evictable>& generations) {
  struct Lineage {
    uint64_t bytes = 0;
    uint32_t holders = 0;
    uint32_t dropped = 0;
  };
  std::map<uint64_t, Lineage> lineages;
  for (const Evictable& evictable : generations) {
    for (const storage::HeldLineage& held : evictable.generation.lineages) {
      Lineage& lineage = lineages[held.uid];
      lineage.bytes = held.bytes;
      lineage.holders = held.holders;
      lineage.dropped += held.own_holders;
    }
  }
  int64_t freed = 0;
  for (const auto& [uid, lineage] : lineages) {
    if (lineage.dropped >= lineage.holders) freed += static_cast<int64_t>(lineage.bytes);
  }
  return freed;
}

}  // namespace

DiskPromise::DiskPromise(DiskPromise&& other) noexcept
    : room_(std::exchange(other.room_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DiskPromise& DiskPromise::operator=(DiskPromise&& other) noexcept {
  std::swap(room_, other.room_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DiskPromise::~DiskPromise() { Written(bytes_); }

void DiskPromise::Written(int64_t bytes) {
  bytes = std::min(bytes, bytes_);
  bytes_ -= bytes;
  if (room_ != nullptr && bytes > 0) room_->GiveBack(bytes);
}

absl::StatusOr<DiskPromise> DiskRoom::Reserve(int64_t bytes, std::string_view what,
                                              const std::function<bool()>& stop) {
  LECTERN_ASSIGN_OR_RETURN(std::optional<DiskPromise> promise, TryReserve(bytes));
  if (promise.has_value()) return *std::move(promise);
  std::lock_guard making(making_);
  return MakeRoom(bytes, what, stop);
}

absl::StatusOr<int64_t> DiskRoom::Available() const {
  absl::StatusOr<storage::DiskUsage> disk = around_.store->DiskUse();
  if (!disk.ok()) return WithReason(disk.status());
  // Of the headroom, what the log has taken is counted as used.
  const uint64_t headroom = disk->headroom_bytes - std::min(disk->headroom_bytes, disk->log_bytes);
  return around_.cap_bytes - static_cast<int64_t>(disk->total() + headroom) - promised_;
}

absl::StatusOr<std::optional<DiskPromise>> DiskRoom::TryReserve(int64_t bytes) {
  std::lock_guard lock(mutex_);
  if (around_.cap_bytes > 0) {
    LECTERN_ASSIGN_OR_RETURN(const int64_t available, Available());
    if (bytes > available) return std::nullopt;
  }
  promised_ += bytes;
  return DiskPromise(this, bytes);
}

absl::StatusOr<DiskPromise> DiskRoom::MakeRoom(int64_t bytes, std::string_view what,
                                               const std::function<bool()>& stop) {
  around_.delete_expired();
  LECTERN_RETURN_IF_ERROR(Collect(stop));
  for (bool first = true;; first = false) {
    if (stop()) {
      return Error(absl::StatusCode::kCancelled, "CANCELLED",
                   fmt::format("cancelled while room was made for {}", what));
    }
    LECTERN_ASSIGN_OR_RETURN(std::optional<DiskPromise> promise, TryReserve(bytes));
    if (promise.has_value()) return *std::move(promise);
    int64_t available;
    {
      std::lock_guard lock(mutex_);
      LECTERN_ASSIGN_OR_RETURN(available, Available());
    }
    LECTERN_ASSIGN_OR_RETURN(const std::vector<Evictable> order, EvictionOrder());
    available = std::max<int64_t>(0, available + FreedBytes(order));
    // Before anything is evicted, see that it would help.
    bool evicted = false;
    if (!first || bytes <= available) {
      LECTERN_ASSIGN_OR_RETURN(evicted, EvictFirst());
      LECTERN_RETURN_IF_ERROR(Collect(stop));
    }
    if (evicted) continue;
    return Error(
        absl::StatusCode::kResourceExhausted, "DISK_CAP_EXCEEDED",
        fmt::format("{} needs {} bytes on disk, and {} are left under the disk cap of {} even with "
                    "everything evicted that may be: delete or unpin corpora, or raise --disk_cap",
                    what, bytes, available, around_.cap_bytes),
        {{"needed_bytes", fmt::to_string(bytes)},
         {"available_bytes", fmt::to_string(available)},
         {"cap_bytes", fmt::to_string(around_.cap_bytes)}});
  }
}

absl::Status DiskRoom::ShrinkToCap() {
  if (around_.cap_bytes == 0) return absl::OkStatus();
  std::lock_guard making(making_);
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      LECTERN_ASSIGN_OR_RETURN(const int64_t available, Available());
      if (available >= 0) return absl::OkStatus();
    }
    LECTERN_ASSIGN_OR_RETURN(const bool evicted, EvictFirst());
    if (!evicted) return absl::OkStatus();
    LECTERN_RETURN_IF_ERROR(Collect([] { return false; }));
  }
}

absl::Status DiskRoom::Collect(const std::function<bool()>& stop) {
  const auto begin = std::chrono::steady_clock::now();
  const auto patience_left = [&](std::chrono::milliseconds patience) {
    return !stop() && std::chrono::steady_clock::now() < begin + patience;
  };
  for (;;) {
    absl::StatusOr<storage::GarbageReport> report = around_.store->CollectGarbage();
    if (!report.ok()) return WithReason(report.status());
    // A run that has just ended lets go of its blocks in a moment; a long answer would not.
    if (report->lineages_in_use == 0 || !patience_left(kReaderPatience)) break;
    std::this_thread::sleep_for(kPoll);
  }
  while (patience_left(kUnlinkPatience)) {
    absl::StatusOr<storage::DiskUsage> disk = around_.store->DiskUse();
    if (!disk.ok()) return WithReason(disk.status());
    if (disk->dropped_bytes == 0) break;
    std::this_thread::sleep_for(kPoll);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Evictable>> DiskRoom::EvictionOrder() const {
  absl::StatusOr<std::vector<storage::CachedGeneration>> cached =
      around_.store->catalog().CachedGenerations();
  if (!cached.ok()) return WithReason(cached.status());
  return EvictionOrder(*std::move(cached));
}

std::vector<Evictable> DiskRoom::EvictionOrder(
    std::vector<storage::CachedGeneration> cached) const {
  std::vector<Evictable> order;
  for (storage::CachedGeneration& generation : cached) {
    if (generation.pinned || around_.uses->InUse(generation.corpus_uid)) continue;
    const int64_t last_used =
        around_.uses->LastUsed(generation.corpus_uid, generation.last_used_time);
    order.push_back({.generation = std::move(generation), .last_used = last_used});
  }
  std::sort(order.begin(), order.end(), [](const Evictable& a, const Evictable& b) {
    if (a.superseded() != b.superseded()) return a.superseded();
    if (a.last_used != b.last_used) return a.last_used < b.last_used;
    return a.generation.uid < b.generation.uid;  // of one corpus: the older generation
  });
  return order;
}

absl::StatusOr<bool> DiskRoom::EvictFirst() {
  LECTERN_ASSIGN_OR_RETURN(const std::vector<Evictable> order, EvictionOrder());
  storage::Catalog& catalog = around_.store->catalog();
  for (const Evictable& victim : order) {
    absl::Status status;
    const auto evict = [&] {
      status = victim.superseded() ? catalog.DeleteGeneration(victim.generation.uid)
                                   : catalog.EvictGeneration(victim.generation.uid).status();
    };
    if (!around_.uses->IfIdle(victim.generation.corpus_uid, evict)) continue;
    // It changed since it was looked at: pinned, asked for a session, deleted.
    if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) continue;
    if (!status.ok()) return WithReason(status);
    ++(victim.superseded() ? superseded_ : least_recently_used_);
    return true;
  }
  return false;
}

void DiskRoom::GiveBack(int64_t bytes) {
  std::lock_guard lock(mutex_);
  promised_ -= bytes;
}

int64_t DiskRoom::promised_bytes() const {
  std::lock_guard lock(mutex_);
  return promised_;
}

DiskRoom::Evictions DiskRoom::evictions() const {
  return {.superseded = superseded_, .least_recently_used = least_recently_used_};
}

}  // namespace lectern::engine
