#include "engine/kv/block_pool.h"

#include <sys/mman.h>

#include <cassert>
#include <cstdio>
#include <cstdlib>

namespace lectern::engine {

size_t BlockKeyHash::operator()(const BlockKey& key) const {
  // splitmix64's finaliser over the three parts: neighbouring blocks and layers must not collide in
  // rows.
  uint64_t h = key.lineage * 0x9E3779B97F4A7C15ull ^ (static_cast<uint64_t>(key.block) << 8) ^
               static_cast<uint64_t>(key.layer);
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
  return static_cast<size_t>(h ^ (h >> 31));
}

BlockPool::BlockPool(int64_t slot_bytes, int64_t capacity_slots)
    : slot_bytes_(slot_bytes), capacity_slots_(capacity_slots), owns_memory_(true) {
  assert(slot_bytes % 64 == 0 && capacity_slots > 0);
  // Reserved, not committed: pages cost memory when a slot is first written.
  void* memory = mmap(nullptr, static_cast<size_t>(slot_bytes * capacity_slots),
                      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "cannot reserve %lld bytes for the block pool\n",
                 static_cast<long long>(slot_bytes * capacity_slots));
    std::abort();
  }
  memory_ = static_cast<std::byte*>(memory);
}

BlockPool::BlockPool(std::byte* memory, int64_t slot_bytes, int64_t capacity_slots)
    : slot_bytes_(slot_bytes),
      capacity_slots_(capacity_slots),
      owns_memory_(false),
      memory_(memory) {
  assert(slot_bytes % 64 == 0 && capacity_slots > 0);
}

BlockPool::~BlockPool() {
  if (owns_memory_) munmap(memory_, static_cast<size_t>(slot_bytes_ * capacity_slots_));
}

int64_t BlockPool::available_slots() const {
  return static_cast<int64_t>(free_.size() + lru_.size()) + capacity_slots_ - never_used_;
}

BlockPool::Slot* BlockPool::Find(const BlockKey& key) {
  auto it = slots_.find(key);
  if (it == slots_.end()) {
    misses_.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  hits_.fetch_add(1, std::memory_order_relaxed);
  Pin(it->second.get());
  return it->second.get();
}

BlockPool::Slot* BlockPool::Peek(const BlockKey& key) const {
  const auto it = slots_.find(key);
  return it == slots_.end() ? nullptr : it->second.get();
}

BlockPool::Slot* BlockPool::Allocate(const BlockKey& key) {
  assert(!slots_.contains(key));
  std::byte* data = nullptr;
  if (!free_.empty()) {
    data = free_.back();
    free_.pop_back();
  } else if (never_used_ < capacity_slots_) {
    data = memory_ + slot_bytes_ * never_used_++;
  } else if (!lru_.empty()) {
    Slot* victim = lru_.front();
    Release(victim);
    data = free_.back();
    free_.pop_back();
  } else {
    return nullptr;
  }
  auto slot = std::make_unique<Slot>();
  slot->key = key;
  slot->data = data;
  slot->pins = 1;
  Slot* result = slot.get();
  slots_.emplace(key, std::move(slot));
  used_.fetch_add(1, std::memory_order_relaxed);
  return result;
}

void BlockPool::Pin(Slot* slot) {
  if (slot->pins == 0 && !slot->dirty) lru_.erase(slot->lru);
  ++slot->pins;
}

void BlockPool::Unpin(Slot* slot) {
  assert(slot->pins > 0);
  --slot->pins;
  if (slot->pins == 0 && !slot->dirty) slot->lru = lru_.insert(lru_.end(), slot);
}

void BlockPool::SetDirty(Slot* slot, bool dirty) {
  if (slot->dirty == dirty) return;
  if (slot->pins == 0) {
    if (dirty) {
      lru_.erase(slot->lru);
    } else {
      slot->lru = lru_.insert(lru_.end(), slot);
    }
  }
  slot->dirty = dirty;
}

bool BlockPool::Rename(Slot* slot, const BlockKey& key) {
  if (auto old = slots_.find(key); old != slots_.end()) {
    if (old->second.get() == slot) return true;
    if (old->second->pins > 0 || old->second->dirty) return false;
    Release(old->second.get());
  }
  auto node = slots_.extract(slot->key);
  node.key() = key;
  slot->key = key;
  slots_.insert(std::move(node));
  return true;
}

void BlockPool::Drop(Slot* slot) {
  assert(slot->pins <= 1);
  Release(slot);
}

void BlockPool::Release(Slot* slot) {
  if (on_release_) on_release_(slot->key);
  if (slot->pins == 0 && !slot->dirty) lru_.erase(slot->lru);
  free_.push_back(slot->data);
  slots_.erase(slot->key);
  used_.fetch_sub(1, std::memory_order_relaxed);
}

BlockPool::Usage BlockPool::GetUsage() const {
  return {.capacity_slots = capacity_slots_,
          .used_slots = used_.load(std::memory_order_relaxed),
          .hits = hits_.load(std::memory_order_relaxed),
          .misses = misses_.load(std::memory_order_relaxed)};
}

}  // namespace lectern::engine
