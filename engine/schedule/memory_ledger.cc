#include "engine/schedule/memory_ledger.h"

#include <algorithm>

namespace lectern::engine {

bool MemoryLedger::Fits(const RunNeeds& needs) const {
  int64_t index_slots = needs.index_slots;
  if (needs.base != 0) {
    const auto base = bases_.find(needs.base);
    const int64_t held = base == bases_.end() ? 0 : base->second.slots;
    index_slots += std::max<int64_t>(0, needs.base_index_slots - held);
  }
  return kv_slots_ + needs.kv_slots <= limits_.kv_slots &&
         index_slots_ + index_slots <= limits_.index_slots;
}

void MemoryLedger::Hold(const RunNeeds& needs) {
  kv_slots_ += needs.kv_slots;
  index_slots_ += needs.index_slots;
  if (needs.base == 0) return;
  Base& base = bases_[needs.base];
  ++base.runs;
  index_slots_ += std::max<int64_t>(0, needs.base_index_slots - base.slots);
  base.slots = std::max(base.slots, needs.base_index_slots);
}

void MemoryLedger::Release(const RunNeeds& needs) {
  kv_slots_ -= needs.kv_slots;
  index_slots_ -= needs.index_slots;
  if (needs.base == 0) return;
  const auto base = bases_.find(needs.base);
  if (--base->second.runs > 0) return;
  index_slots_ -= base->second.slots;
  bases_.erase(base);
}

}  // namespace lectern::engine
