// When the stored blocks of a context are given up and computed again from its documents, because
// that is quicker than waiting for the disk. Decided by what was measured, never by a guess:
//
//   slow        One context's reads were waited for longer than prefilling all of it again takes,
//               `kSlowFactor` times over, at the rate at which this process prefilled last. As long
//               as it has prefilled nothing it cannot tell, and gives nothing up.
//   unreadable  So many contexts in a row could not be read: each read failed for good (storage's
//               attempts used up) or was not answered in time. Waiting has no end then.
//
// Both only while the documents can be read, since they are what is left then; and a generation
// once within kRecomputeRest at most, so that a disk that is slow altogether does not keep it
// being computed for ever. Blocks that are damaged are not weighed: they are always computed again.
#pragma once

#include <chrono>
#include <cstdint>

namespace lectern::engine {

inline constexpr double kSlowFactor = 2;
inline constexpr int kUnreadableAfter = 3;
inline constexpr std::chrono::hours kRecomputeRest(1);

enum class Recompute { kNo, kSlow, kUnreadable };

// `waited_seconds`: of one context, reads at the same time counted once. `failures`: contexts in a
// row that could not be read, this one included. `tokens`: of the generation.
// `prefill_tokens_per_second`: 0 if unknown.
inline Recompute Weigh(double waited_seconds, int failures, int64_t tokens,
                       double prefill_tokens_per_second) {
  if (failures >= kUnreadableAfter) return Recompute::kUnreadable;
  if (prefill_tokens_per_second <= 0) return Recompute::kNo;
  const double prefill_seconds = static_cast<double>(tokens) / prefill_tokens_per_second;
  return waited_seconds > kSlowFactor * prefill_seconds ? Recompute::kSlow : Recompute::kNo;
}

}  // namespace lectern::engine
