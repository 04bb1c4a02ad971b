// Memory that runs hold between them: slots of the block pool and of index keys. Pure bookkeeping.
#pragma once

#include <cstdint>
#include <map>

namespace lectern::engine {

// What a run holds from its start to its end. Never less than what it takes.
struct RunNeeds {
  int64_t kv_slots = 0;     // K/V slots: one layer of one block
  int64_t index_slots = 0;  // blocks whose index keys are its own
  // Blocks that it shares with every run of the same base (a context of a generation; 0: none):
  // counted once, however many there are.
  uint64_t base = 0;
  int64_t base_index_slots = 0;
};

class MemoryLedger {
 public:
  struct Limits {
    int64_t kv_slots = 0;
    int64_t index_slots = 0;
  };
  explicit MemoryLedger(const Limits& limits) : limits_(limits) {}

  // Whether there is room beside what is held now.
  bool Fits(const RunNeeds& needs) const;
  void Hold(const RunNeeds& needs);
  // REQUIRES: held.
  void Release(const RunNeeds& needs);

  const Limits& limits() const { return limits_; }
  int64_t kv_slots() const { return kv_slots_; }
  int64_t index_slots() const { return index_slots_; }  // bases included

 private:
  struct Base {
    int64_t runs = 0;
    int64_t slots = 0;  // the most that any of them named
  };

  const Limits limits_;
  int64_t kv_slots_ = 0;
  int64_t index_slots_ = 0;
  std::map<uint64_t, Base> bases_;
};

}  // namespace lectern::engine
