// What the engine has done since it was opened. Relaxed atomics: written by the step thread, read
// by anybody.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/quota/tenant_meters.h"

namespace lectern::engine {

struct Counters {
  std::atomic<int64_t> prefill_tokens{0};         // corpus and question tokens computed
  std::atomic<int64_t> corpus_prefill_tokens{0};  // of these, document tokens
  std::atomic<int64_t> cached_tokens{0};  // taken from the cache instead, by ingests and questions
  std::atomic<int64_t> generated_tokens{0};
  std::atomic<int64_t> open_contexts{0};
  TenantMeters tenants;  // the same by tenant, and held against its quotas
};

// Adds one to a level for as long as it lives.
class LevelGuard {
 public:
  explicit LevelGuard(std::atomic<int64_t>* level) : level_(level) {
    level_->fetch_add(1, std::memory_order_relaxed);
  }
  ~LevelGuard() { level_->fetch_sub(1, std::memory_order_relaxed); }
  LevelGuard(const LevelGuard&) = delete;
  LevelGuard& operator=(const LevelGuard&) = delete;

 private:
  std::atomic<int64_t>* const level_;
};

}  // namespace lectern::engine
