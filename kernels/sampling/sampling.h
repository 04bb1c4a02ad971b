#pragma once

// From one row of logits to a token.

#include <cstdint>

namespace lectern::kernels {

struct SampleParams {
  const float* logits;    // [vocabulary]; NaN counts as minus infinity
  int32_t vocabulary;     // > 0
  float temperature = 0;  // 0: greedy
  float top_p = 1;        // (0, 1]: the smallest set of most probable tokens whose mass reaches it
  // The only randomness: equal inputs give equal tokens, whatever ran before.
  uint64_t seed = 0;
  uint64_t counter = 0;  // e.g. the position of the token
};

struct SampledToken {
  int32_t id;
  float log_probability;  // natural log of softmax(logits)[id] at temperature 1 and without top-p
};

// Greedy: the largest logit, ties to the lower id. Else: softmax(logits / temperature) cut at top_p
// (ties in rank by lower id), one uniform number from (seed, counter), inverse of the cumulated
// probabilities in rank order.
SampledToken Sample(const SampleParams& params);
SampledToken SampleReference(const SampleParams& params);

// Uniform in [0, 1), 53 bits, a pure function of its arguments (SplitMix64's finaliser over seed
// and counter).
double CounterUniform(uint64_t seed, uint64_t counter);

}  // namespace lectern::kernels
