#include "kernels/index_select/index_select.h"

#include <omp.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/index_select/index_select_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

#ifndef LECTERN_INDEX_SELECT_SHARED
#define LECTERN_INDEX_SELECT_SHARED
namespace lectern::kernels {

inline constexpr int kMaxHeadPairs = kMaxHeadDim / 2;

// Which piece of work a target's function does: block maxima of some queries over a range of
// blocks.
struct ScoreRange {
  const Bf16* const* queries;     // [count] each [dim]
  int32_t count;                  // 1..kQueriesPerTile
  const Bf16* const* key_blocks;  // [end - begin] tiles, the range's first block first
  int32_t begin, end;             // at most kBlocksPerChunk
  int32_t dim;
  const Bf16* next;  // tile that will be read next, or null: fetched ahead where one read serves
                     // few queries
  float* scores;     // [count][kBlocksPerChunk]
};

inline constexpr int kQueriesPerTile =
    96;  // 12 KB of queries of dim 64 beside a 16 KB key tile in the first-level cache
inline constexpr int kBlocksPerChunk =
    16;  // scores of a chunk are compared with a query's threshold at once

// ln sum exp(scale s) of some queries over the tokens of each block that they see.
struct MassRange {
  const Bf16* const* queries;     // [count] each [dim]
  const int32_t* positions;       // [count]
  int32_t count;                  // 1..kQueriesPerTile
  const Bf16* const* key_blocks;  // [end - begin] tiles, the range's first block first
  int32_t begin, end;
  int32_t dim;
  float scale;
  float* block_lse;  // [count][stride], the range's first block first; untouched where nothing is
                     // seen
  int64_t stride;
};

}  // namespace lectern::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

// Register tile: kM queries by kV vectors of tokens. The order of additions within one (query,
// token) is the same for every shape (PairGemm), so which one runs never shows in a score.
#if HWY_TARGET == HWY_AVX2
inline constexpr int kTileQueries = 4;
inline constexpr int kTileVectors = 2;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kTileQueries = 4;
inline constexpr int kTileVectors = 4;
#elif LECTERN_NATIVE_BF16
inline constexpr int kTileQueries = 6;
inline constexpr int kTileVectors = 4;
#else
inline constexpr int kTileQueries = 4;
inline constexpr int kTileVectors = 4;
#endif

// maxima[m] = max over the 128 tokens of q[m] . k.
template <int kM, int kV>
HWY_INLINE void BlockMaxima(const Pair* const (&q)[kM], const Bf16* tile, const Bf16* ahead,
                            int pairs, float* maxima, int64_t stride) {
  const DF df;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(tile);
  VF best[kM];
  for (int m = 0; m < kM; ++m) best[m] = hn::Set(df, -std::numeric_limits<float>::infinity());
  for (int t = 0; t < kBlockTokens; t += kV * kLanes) {
    VF acc[kM][kV];
    for (int m = 0; m < kM; ++m) {
      for (int v = 0; v < kV; ++v) acc[m][v] = hn::Zero(df);
    }
    const uint32_t* fetch =
        ahead != nullptr ? reinterpret_cast<const uint32_t*>(ahead) + t : nullptr;
    PairGemm<kM, kV>(q, words + t, kBlockTokens, pairs, acc, fetch);
    for (int m = 0; m < kM; ++m) {
      // A NaN score on the left is passed over: it counts as minus infinity.
      for (int v = 0; v < kV; ++v) best[m] = hn::Max(acc[m][v], best[m]);
    }
  }
  for (int m = 0; m < kM; ++m) maxima[m * stride] = hn::GetLane(hn::MaxOfLanes(df, best[m]));
}

template <int kM>
HWY_INLINE void ScoreGroup(const Pair* const* q, const Bf16* tile, const Bf16* ahead, int pairs,
                           float* maxima) {
  const Pair* group[kM];
  for (int m = 0; m < kM; ++m) group[m] = q[m];
  // One or two queries leave registers for a whole row of the tile: the reads run straight through
  // memory.
  constexpr int kWhole = kBlockTokens / kLanes;
  constexpr int kV = (kM <= 2 && kLanes == 16) ? kWhole : kTileVectors;
  BlockMaxima<kM, kV>(group, tile, ahead, pairs, maxima, kBlocksPerChunk);
}

void ScoreBlocks(const ScoreRange& r) {
  const int pairs = r.dim / 2;
#if LECTERN_NATIVE_BF16
  Pair room[1];
  constexpr int kRoomPairs = 0;
#else
  // On the heap: thread-local arrays would weigh on the stack of every thread of the process.
  static thread_local std::vector<Pair> pairs_room(kQueriesPerTile * kMaxHeadPairs);
  Pair* const room = pairs_room.data();
  constexpr int kRoomPairs = kMaxHeadPairs;
#endif
  const Pair* q[kQueriesPerTile];
  for (int i = 0; i < r.count; ++i) q[i] = PairsOf(r.queries[i], pairs, room + i * kRoomPairs);
  for (int b = 0; b < r.end - r.begin; ++b) {
    const Bf16* tile = r.key_blocks[b];
    // The first group of queries fetches the next tile while it works.
    const Bf16* next = b + 1 < r.end - r.begin ? r.key_blocks[b + 1] : r.next;
    const auto ahead = [&](int first) { return first == 0 ? next : nullptr; };
    float* out = r.scores + b;
    int i = 0;
    for (; i + kTileQueries <= r.count; i += kTileQueries) {
      ScoreGroup<kTileQueries>(q + i, tile, ahead(i), pairs, out + i * kBlocksPerChunk);
    }
    switch (r.count - i) {
      case 5:
        ScoreGroup<5>(q + i, tile, ahead(i), pairs, out + i * kBlocksPerChunk);
        break;
      case 4:
        ScoreGroup<4>(q + i, tile, ahead(i), pairs, out + i * kBlocksPerChunk);
        break;
      case 3:
        ScoreGroup<3>(q + i, tile, ahead(i), pairs, out + i * kBlocksPerChunk);
        break;
      case 2:
        ScoreGroup<2>(q + i, tile, ahead(i), pairs, out + i * kBlocksPerChunk);
        break;
      case 1:
        ScoreGroup<1>(q + i, tile, ahead(i), pairs, out + i * kBlocksPerChunk);
        break;
      default:
        break;
    }
  }
}

// ln sum exp of the first `tokens` scores, scaled. A NaN counts as minus infinity.
HWY_INLINE float MassOf(float* scores, int tokens, float scale) {
  const DF df;
  const VF minus_infinity = hn::Set(df, -std::numeric_limits<float>::infinity());
  VF best = minus_infinity;
  for (int t = 0; t < tokens; t += kLanes) {
    VF s = hn::Load(df, scores + t);
    const auto keep =
        hn::And(hn::FirstN(df, static_cast<size_t>(HWY_MIN(kLanes, tokens - t))), hn::Eq(s, s));
    s = hn::IfThenElse(keep, s, minus_infinity);
    best = hn::Max(best, s);
    hn::Store(s, df, scores + t);
  }
  const float top = hn::GetLane(hn::MaxOfLanes(df, best));
  if (!(top > -std::numeric_limits<float>::infinity())) return top;
  VF sum = hn::Zero(df);
  const VF exponent = hn::Set(df, scale * kLog2E);
  for (int t = 0; t < tokens; t += kLanes) {
    const VF s = hn::Sub(hn::Load(df, scores + t), hn::Set(df, top));
    sum = hn::Add(sum, Exp2(hn::Mul(s, exponent)));
  }
  return top * scale + std::log(hn::GetLane(hn::SumOfLanes(df, sum)));
}

// The queries `first` and on against one block, which is read once for them.
template <int kM>
HWY_INLINE void MassGroup(const MassRange& r, const Pair* const* q, int first, int block,
                          const Bf16* ahead) {
  const DF df;
  const Pair* group[kM];
  for (int m = 0; m < kM; ++m) group[m] = q[first + m];
  HWY_ALIGN float scores[kM][kBlockTokens];
  const uint32_t* words = reinterpret_cast<const uint32_t*>(r.key_blocks[block - r.begin]);
  for (int t = 0; t < kBlockTokens; t += kTileVectors * kLanes) {
    VF acc[kM][kTileVectors];
    for (int m = 0; m < kM; ++m) {
      for (int v = 0; v < kTileVectors; ++v) acc[m][v] = hn::Zero(df);
    }
    const uint32_t* fetch =
        ahead != nullptr ? reinterpret_cast<const uint32_t*>(ahead) + t : nullptr;
    PairGemm<kM, kTileVectors>(group, words + t, kBlockTokens, r.dim / 2, acc, fetch);
    for (int m = 0; m < kM; ++m) {
      for (int v = 0; v < kTileVectors; ++v) hn::Store(acc[m][v], df, scores[m] + t + v * kLanes);
    }
  }
  for (int m = 0; m < kM; ++m) {
    const int seen = HWY_MIN(kBlockTokens, r.positions[first + m] + 1 - block * kBlockTokens);
    if (seen > 0)
      r.block_lse[(first + m) * r.stride + block - r.begin] = MassOf(scores[m], seen, r.scale);
  }
}

void BlockMasses(const MassRange& r) {
  const int pairs = r.dim / 2;
#if LECTERN_NATIVE_BF16
  Pair room[1];
  constexpr int kRoomPairs = 0;
#else
  static thread_local std::vector<Pair> pairs_room(kQueriesPerTile * kMaxHeadPairs);
  Pair* const room = pairs_room.data();
  constexpr int kRoomPairs = kMaxHeadPairs;
#endif
  const Pair* q[kQueriesPerTile];
  for (int i = 0; i < r.count; ++i) q[i] = PairsOf(r.queries[i], pairs, room + i * kRoomPairs);
  for (int block = r.begin; block < r.end; ++block) {
    const Bf16* const next = block + 1 < r.end ? r.key_blocks[block + 1 - r.begin] : nullptr;
    int i = 0;
    for (; i + 4 <= r.count; i += 4) MassGroup<4>(r, q, i, block, i == 0 ? next : nullptr);
    for (; i + 2 <= r.count; i += 2) MassGroup<2>(r, q, i, block, i == 0 ? next : nullptr);
    if (i < r.count) MassGroup<1>(r, q, i, block, i == 0 ? next : nullptr);
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(ScoreBlocks);
HWY_EXPORT(BlockMasses);

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Candidate {
  float score;
  int32_t block;
};

// The definition's order: larger score first, ties to the lower block.
bool Better(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.block < b.block;
}

// The `keep` best blocks of one query among those offered so far, in any order of offering within a
// range as long as blocks ascend. Collects up to twice as many and cuts by selection: a few
// comparisons per block on average, whatever the order of scores.
class BestBlocks {
 public:
  explicit BestBlocks(int keep) : keep_(keep), room_(2 * keep + kBlocksPerChunk) {
    found_.reserve(static_cast<size_t>(room_));
  }

  void Clear() {
    found_.clear();
    threshold_ = -kInfinity;
  }

  // scores of blocks begin..end-1. Strictly above the threshold only: at equality the lower block,
  // seen before, stays.
  void Offer(const float* scores, int begin, int end) {
    for (int b = begin; b < end; ++b) {
      const float s = scores[b - begin];
      if (s > threshold_ || static_cast<int>(found_.size()) < keep_) found_.push_back({s, b});
    }
    if (static_cast<int>(found_.size()) >= 2 * keep_) Cut();
  }

  void Add(const BestBlocks& other) {
    found_.insert(found_.end(), other.found_.begin(), other.found_.end());
  }

  // Best first.
  std::vector<Candidate>& Sorted() {
    std::sort(found_.begin(), found_.end(), Better);
    if (static_cast<int>(found_.size()) > keep_) found_.resize(static_cast<size_t>(keep_));
    return found_;
  }

 private:
  void Cut() {
    const auto kth = found_.begin() + (keep_ - 1);
    std::nth_element(found_.begin(), kth, found_.end(), Better);
    threshold_ = kth->score;
    found_.resize(static_cast<size_t>(keep_));
  }

  int keep_;
  int room_;
  float threshold_ = -kInfinity;
  std::vector<Candidate> found_;
};

int OwnBlock(const IndexSelectParams& p, int row) { return p.positions[row] / kBlockTokens; }

// Slots [0, free] of one (row, head): `free` earlier blocks and the own one, ascending, -1 behind.
void FillSlots(const IndexSelectParams& p, int64_t query, int own, const int32_t* earlier,
               size_t free) {
  int32_t* out = p.selected + query * p.topk;
  std::copy_n(earlier, free, out);
  out[free] = own;
  std::sort(out, out + free);
  std::fill(out + free + 1, out + p.topk, -1);
}

// Writes one (row, head)'s answer from its best earlier blocks, best first. `order`, if not null,
// keeps them in that order, -1 behind.
void WriteSelection(const IndexSelectParams& p, int64_t query, int own,
                    std::vector<Candidate>& best, int32_t* order) {
  const size_t free = std::min(best.size(), static_cast<size_t>(p.topk - 1));
  if (p.margin != nullptr) {
    const bool cut = free > 0 && free < best.size();
    float margin = kInfinity;
    if (cut) {
      const float worst_in = best[free - 1].score, best_out = best[free].score;
      margin = worst_in == best_out ? 0.0f : worst_in - best_out;
    }
    p.margin[query] = margin;
  }
  int32_t blocks[kMaxTopk];
  for (size_t i = 0; i < free; ++i) blocks[i] = best[i].block;
  FillSlots(p, query, own, blocks, free);
  if (order == nullptr) return;
  std::copy_n(blocks, free, order);
  std::fill(order + free, order + p.topk, -1);
}

// A tile of queries against a range of blocks.
struct Job {
  int64_t first_query;
  int32_t count;
  int32_t begin, end;  // blocks
};

class Selection {
 public:
  explicit Selection(const IndexSelectParams& p)
      : p_(p), keep_(p.margin != nullptr ? p.topk : p.topk - 1) {
    if (Widens()) order_.resize(static_cast<size_t>(p.rows) * p.heads * p.topk);
  }

  void Run() {
    Plan();
    const int threads = omp_get_max_threads();
    const int64_t jobs = static_cast<int64_t>(jobs_.size());
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (jobs > 1)
    for (int64_t j = 0; j < jobs; ++j) RunJob(j);
    if (splits_ > 1) Merge();
    if (p_.flagged != nullptr || Widens()) Coverage();
  }

 private:
  bool Widens() const { return p_.first_topk > 0 && p_.first_topk < p_.topk; }
  // Rows that see no more blocks than this keep all of them.
  int Narrowest() const { return Widens() ? p_.first_topk : p_.topk; }
  int32_t* Order(int64_t query) { return Widens() ? order_.data() + query * p_.topk : nullptr; }

  // Queries that must be scored, in tiles; rows whose visible blocks all fit are answered here.
  void Plan() {
    int last = 0;
    for (int row = 0; row < p_.rows; ++row) {
      const int own = OwnBlock(p_, row);
      assert(p_.positions[row] >= 0 && own < p_.blocks);
      for (int h = 0; h < p_.heads; ++h) {
        const int64_t query = int64_t{row} * p_.heads + h;
        if (own <= Narrowest() - 1 || p_.topk == 1) {
          std::vector<Candidate> all;
          for (int b = 0; b < own && p_.topk > 1; ++b) all.push_back({0, b});
          WriteSelection(p_, query, own, all, Order(query));
        } else {
          scored_.push_back(query);
          last = std::max(last, own);
        }
      }
    }
    const int64_t tiles =
        (static_cast<int64_t>(scored_.size()) + kQueriesPerTile - 1) / kQueriesPerTile;
    const int64_t wanted = 2 * int64_t{omp_get_max_threads()};
    constexpr int kLeastBlocks =
        4 * kBlocksPerChunk;  // below this a range costs more to merge than it saves
    if (tiles > 0 && tiles < wanted) {
      splits_ = static_cast<int>(
          std::clamp<int64_t>((wanted + tiles - 1) / tiles, 1, std::max(1, last / kLeastBlocks)));
    }
    // Even tiles: 100 queries are 50 and 50 rather than 96 and 4.
    const int64_t n = static_cast<int64_t>(scored_.size());
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = n * t / tiles, end = n * (t + 1) / tiles;
      for (int s = 0; s < splits_; ++s) {
        const auto edge = [&](int i) {
          return static_cast<int32_t>(int64_t{last} * i / splits_ / kBlocksPerChunk *
                                      kBlocksPerChunk);
        };
        jobs_.push_back({first, static_cast<int32_t>(end - first), edge(s),
                         s + 1 == splits_ ? last : edge(s + 1)});
      }
    }
    if (splits_ > 1) partial_.resize(jobs_.size());
  }

  const Bf16* Query(int64_t query) const {
    return p_.q + query / p_.heads * p_.q_row_stride + query % p_.heads * p_.dim;
  }

  void RunJob(int64_t index) {
    const Job& job = jobs_[static_cast<size_t>(index)];
    static thread_local std::vector<BestBlocks> best;
    best.assign(static_cast<size_t>(job.count), BestBlocks(keep_));
    const Bf16* queries[kQueriesPerTile];
    int own[kQueriesPerTile];
    int last = 0;
    for (int i = 0; i < job.count; ++i) {
      const int64_t query = scored_[static_cast<size_t>(job.first_query + i)];
      queries[i] = Query(query);
      own[i] = OwnBlock(p_, static_cast<int>(query / p_.heads));
      last = std::max(last, own[i]);
    }
    last = std::min(last, job.end);
    alignas(64) float scores[kQueriesPerTile * kBlocksPerChunk];
    const auto score = &LECTERN_DISPATCH(ScoreBlocks);
    for (int b = job.begin; b < last; b += kBlocksPerChunk) {
      const int end = std::min(b + kBlocksPerChunk, last);
      score({queries, job.count, p_.key_blocks + b, b, end, p_.dim,
             end < last ? p_.key_blocks[end] : nullptr, scores});
      for (int i = 0; i < job.count; ++i) {
        best[static_cast<size_t>(i)].Offer(scores + i * kBlocksPerChunk, b, std::min(end, own[i]));
      }
    }
    if (splits_ > 1) {
      partial_[static_cast<size_t>(index)] = best;
      return;
    }
    for (int i = 0; i < job.count; ++i) {
      const int64_t query = scored_[static_cast<size_t>(job.first_query + i)];
      WriteSelection(p_, query, own[i], best[static_cast<size_t>(i)].Sorted(), Order(query));
    }
  }

  // The order of ranges does not matter: Better is a total order.
  void Merge() {
    for (size_t j = 0; j < jobs_.size(); j += static_cast<size_t>(splits_)) {
      for (int i = 0; i < jobs_[j].count; ++i) {
        BestBlocks& all = partial_[j][static_cast<size_t>(i)];
        for (int s = 1; s < splits_; ++s) {
          all.Add(partial_[j + static_cast<size_t>(s)][static_cast<size_t>(i)]);
        }
        const int64_t query = scored_[static_cast<size_t>(jobs_[j].first_query + i)];
        WriteSelection(p_, query, OwnBlock(p_, static_cast<int>(query / p_.heads)), all.Sorted(),
                       Order(query));
      }
    }
  }

  // Keys are read once for as many queries as a tile takes.
  void Coverage() {
    std::vector<int64_t> asking;
    for (int row = 0; row < p_.rows; ++row) {
      if (!Flagged(row) && !(Widens() && OwnBlock(p_, row) > p_.first_topk - 1)) continue;
      for (int h = 0; h < p_.heads; ++h) asking.push_back(int64_t{row} * p_.heads + h);
    }
    for (std::span<const int64_t> left = asking; !left.empty();) {
      const auto tile = left.first(std::min<size_t>(left.size(), kQueriesPerTile));
      Masses(tile);
      for (size_t i = 0; i < tile.size(); ++i) CoverageOf(tile[i], block_lse_.data() + i * stride_);
      left = left.subspan(tile.size());
    }
  }

  bool Flagged(int64_t row) const { return p_.flagged != nullptr && p_.flagged[row] != 0; }

  void Masses(std::span<const int64_t> asking) {
    const Bf16* queries[kQueriesPerTile];
    int32_t positions[kQueriesPerTile];
    int blocks = 0;
    for (size_t i = 0; i < asking.size(); ++i) {
      const int row = static_cast<int>(asking[i] / p_.heads);
      queries[i] = Query(asking[i]);
      positions[i] = p_.positions[row];
      blocks = std::max(blocks, OwnBlock(p_, row) + 1);
    }
    stride_ = static_cast<size_t>(blocks);
    block_lse_.resize(asking.size() * stride_);
    const auto mass = &LECTERN_DISPATCH(BlockMasses);
    constexpr int kPiece = 64;
    const int pieces = (blocks + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static) if (pieces > 1)
    for (int i = 0; i < pieces; ++i) {
      const int begin = i * kPiece;
      mass({.queries = queries,
            .positions = positions,
            .count = static_cast<int32_t>(asking.size()),
            .key_blocks = p_.key_blocks + begin,
            .begin = begin,
            .end = std::min(begin + kPiece, blocks),
            .dim = p_.dim,
            .scale = 1.0f / std::sqrt(static_cast<float>(p_.dim)),
            .block_lse = block_lse_.data() + begin,
            .stride = static_cast<int64_t>(stride_)});
    }
  }

  void CoverageOf(int64_t query, const float* block_lse) {
    const int64_t row = query / p_.heads;
    const int blocks = OwnBlock(p_, static_cast<int>(row)) + 1;
    // Summed in fp64 in ascending order, so that threads do not show.
    double top = -kInfinity;
    for (int b = 0; b < blocks; ++b) top = std::max(top, double{block_lse[b]});
    double all = 0;
    for (int b = 0; b < blocks; ++b) all += std::exp(block_lse[b] - top);
    if (Widens()) Widen(query, blocks, block_lse, top, all);
    if (!Flagged(row)) return;
    p_.lse_visible[query] = static_cast<float>(top + std::log(all));
    p_.lse_selected[query] = static_cast<float>(top + std::log(MassInside(query, block_lse, top)));
  }

  // Of the blocks in the query's slots, relative to exp(top).
  double MassInside(int64_t query, const float* block_lse, double top) const {
    const int32_t* selected = p_.selected + query * p_.topk;
    double in = 0;
    for (int i = 0; i < p_.topk && selected[i] >= 0; ++i) {
      in += std::exp(block_lse[selected[i]] - top);
    }
    return in;
  }

  void Widen(int64_t query, int blocks, const float* block_lse, double top, double all) {
    for (int taken = p_.first_topk;; taken = std::min(2 * taken, p_.topk)) {
      const int free = std::min(taken, blocks) - 1;
      FillSlots(p_, query, blocks - 1, Order(query), static_cast<size_t>(free));
      if (taken == p_.topk || taken >= blocks) return;
      if (p_.widen_below < 1 && MassInside(query, block_lse, top) >= p_.widen_below * all) return;
    }
  }

  const IndexSelectParams& p_;
  const int keep_;
  int splits_ = 1;
  std::vector<int64_t> scored_;  // row * heads + head
  std::vector<Job> jobs_;        // tile-major, splits_ of a tile side by side
  std::vector<std::vector<BestBlocks>> partial_;
  std::vector<float> block_lse_;  // [queries at hand][stride_]
  size_t stride_ = 0;
  std::vector<int32_t> order_;  // where rows widen: [query][topk] earlier blocks, best first
};

}  // namespace

void IndexSelect(const IndexSelectParams& p) {
  assert(p.heads > 0 && p.dim > 0 && p.dim % 16 == 0 && p.dim <= kMaxHeadDim);
  assert(p.topk >= 1 && p.topk <= kMaxTopk && p.q_row_stride >= int64_t{p.heads} * p.dim);
  assert(p.flagged == nullptr || (p.lse_visible != nullptr && p.lse_selected != nullptr));
  assert(p.first_topk >= 0 && p.first_topk <= p.topk);
  assert(p.first_topk == 0 || p.margin == nullptr);
  if (p.rows == 0) return;
  Selection(p).Run();
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
