// A bounded memory of blocks: a slot holds one layer of one block, all KV heads, in the layout that
// the attention kernels read (or, of index keys, one block in all layers). Contexts larger than the
// pool work: what is not resident is fetched again. The pool keeps the books and never looks at the
// memory, which may be the host's or a device's.
//
// A slot is *pinned* while somebody holds a pointer into it, *dirty* while storage does not have
// its bytes yet. Only slots that are neither can be evicted, least recently used first. Not
// thread-safe: the engine's step thread owns it; Usage() may be read from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::engine {

// Names one layer of one block of one lineage. Lineages of storage are below kUnstoredLineages;
// blocks that storage does not know (an answer in progress) live in lineages at or above it.
struct BlockKey {
  uint64_t lineage = 0;
  int64_t block = 0;
  int32_t layer = 0;
  friend bool operator==(const BlockKey&, const BlockKey&) = default;
};

inline constexpr uint64_t kUnstoredLineages = uint64_t{1} << 62;

struct BlockKeyHash {
  size_t operator()(const BlockKey& key) const;
};

class BlockPool {
 public:
  struct Slot {
    BlockKey key;
    std::byte* data = nullptr;  // slot_bytes(), 64-byte aligned
    int32_t pins = 0;
    int32_t tokens = 0;  // valid ones; whoever fills the slot keeps it true
    bool dirty = false;
    std::list<Slot*>::iterator lru;  // valid while neither pinned nor dirty
  };

  struct Usage {
    int64_t capacity_slots = 0;
    int64_t used_slots = 0;
    int64_t hits = 0;
    int64_t misses = 0;
  };

  // REQUIRES: slot_bytes a multiple of 64. Memory is reserved at once and touched when first used.
  BlockPool(int64_t slot_bytes, int64_t capacity_slots);
  // The same over `capacity_slots` slots at `memory`, which the caller owns. Pointers into it are
  // only computed: it may be a device's.
  BlockPool(std::byte* memory, int64_t slot_bytes, int64_t capacity_slots);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  ~BlockPool();

  int64_t slot_bytes() const { return slot_bytes_; }
  int64_t capacity_slots() const { return capacity_slots_; }
  // Slots that Allocate could hand out now.
  int64_t available_slots() const;

  // The resident slot of `key`, pinned once more, or nullptr. Counts a hit or a miss.
  Slot* Find(const BlockKey& key);

  // The same, not pinned and not counted.
  Slot* Peek(const BlockKey& key) const;

  // Which of the pool's slots this is, 0 and on.
  int64_t IndexOf(const Slot* slot) const { return (slot->data - memory_) / slot_bytes_; }

  // Called with the name of every slot that is evicted, dropped or replaced, before it goes.
  void set_on_release(std::function<void(const BlockKey&)> on_release) {
    on_release_ = std::move(on_release);
  }

  // A slot for `key`, pinned once, contents undefined; evicts if it must. nullptr when everything
  // is pinned or dirty. REQUIRES: `key` is not resident.
  Slot* Allocate(const BlockKey& key);

  void Pin(Slot* slot);
  void Unpin(Slot* slot);
  void SetDirty(Slot* slot, bool dirty);

  // Gives a resident slot another name: what was computed for an answer has become part of its
  // session's lineage. An older version that is resident under the new name is replaced; false if
  // that is not possible because it is pinned.
  bool Rename(Slot* slot, const BlockKey& key);

  // Forgets a slot whatever its state; its pointers die. REQUIRES: pins <= 1 (the caller's own).
  void Drop(Slot* slot);
  Usage GetUsage() const;

 private:
  void Release(Slot* slot);

  const int64_t slot_bytes_;
  const int64_t capacity_slots_;
  const bool owns_memory_;
  std::byte* memory_ = nullptr;
  std::function<void(const BlockKey&)> on_release_;
  std::unordered_map<BlockKey, std::unique_ptr<Slot>, BlockKeyHash> slots_;
  std::vector<std::byte*> free_;
  int64_t never_used_ = 0;  // first slot of memory_ that was never handed out
  std::list<Slot*> lru_;    // front: next to be evicted
  std::atomic<int64_t> used_{0};
  std::atomic<int64_t> hits_{0};
  std::atomic<int64_t> misses_{0};
};

}  // namespace lectern::engine
