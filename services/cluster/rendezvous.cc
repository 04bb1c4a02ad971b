#include "services/cluster/rendezvous.h"

#include <xxhash.h>

#include <cmath>

namespace lectern::services {
namespace {

// Uniform in (0, 1), from the upper 53 bits.
double Uniform(std::string_view key, std::string_view group) {
  const XXH64_hash_t seed = XXH3_64bits(group.data(), group.size());
  const XXH64_hash_t hash = XXH3_64bits_withSeed(key.data(), key.size(), seed);
  return (static_cast<double>(hash >> 11) + 0.5) * 0x1p-53;
}

}  // namespace

std::optional<size_t> ChooseByRendezvous(std::string_view key,
                                         const std::vector<Candidate>& candidates) {
  std::optional<size_t> best;
  double best_score = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!(candidates[i].weight > 0)) continue;
    const double score = -candidates[i].weight / std::log(Uniform(key, candidates[i].name));
    if (!best || score > best_score ||
        (score == best_score && candidates[i].name < candidates[*best].name)) {
      best = i;
      best_score = score;
    }
  }
  return best;
}

}  // namespace lectern::services
