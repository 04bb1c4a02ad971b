// What the engine has done since it was opened. Relaxed atomics: written by the step thread, read
// by anybody.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/quota/tenant_meters.h"
#include "engine/schedule/prefill_rate.h"

namespace lectern::engine {

struct Counters {
  std::atomic<int64_t> prefill_tokens{0};         // corpus and question tokens computed
  std::atomic<int64_t> corpus_prefill_tokens{0};  // of these, document tokens
  std::atomic<int64_t> cached_tokens{0};  // taken from the cache instead, by ingests and questions
  std::atomic<int64_t> generated_tokens{0};
  std::atomic<int64_t> drafted_tokens{0};   // guesses at these, computed
  std::atomic<int64_t> accepted_tokens{0};  // guesses that were right
  std::atomic<int64_t> open_contexts{0};
  std::atomic<int64_t> pending_tokens{0};  // of questions and documents, accepted, to be computed
  PrefillRate prefill_rate;
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

// Tokens that one run still has to compute, as a part of the level of all: leaves none behind.
class PendingTokens {
 public:
  PendingTokens(std::atomic<int64_t>* level, int64_t tokens) : level_(level), tokens_(tokens) {
    level_->fetch_add(tokens_, std::memory_order_relaxed);
  }
  ~PendingTokens() { Computed(tokens_); }
  PendingTokens(const PendingTokens&) = delete;
  PendingTokens& operator=(const PendingTokens&) = delete;

  void Computed(int64_t tokens) {
    tokens_ -= tokens;
    level_->fetch_sub(tokens, std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t>* const level_;
  int64_t tokens_;
};

}  // namespace lectern::engine
