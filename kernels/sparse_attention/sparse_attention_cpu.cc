#include "kernels/sparse_attention/sparse_attention.h"

#include <omp.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sparse_attention/sparse_attention_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

#ifndef LECTERN_SPARSE_ATTENTION_SHARED
#define LECTERN_SPARSE_ATTENTION_SHARED
namespace lectern::kernels {

// The running softmax of a tile. Query = row * heads + head. Maxima are of raw products, before the
// scale.
struct SoftmaxState {
  float* sum;      // [queries][dim] weighted values
  float* maximum;  // [queries]
  float* mass;     // [queries]

  static SoftmaxState Of(const AttentionShape& shape, const AttentionTile& tile) {
    const int64_t queries = int64_t{tile.rows} * shape.heads;
    return {tile.state, tile.state + queries * shape.dim, tile.state + queries * (shape.dim + 1)};
  }
};

inline constexpr int kGroup = 4;  // queries that share one pass over a block's keys and values

// Some queries of one block, all with the same number of visible tokens.
struct QueryGroup {
  const Bf16* q[kGroup];     // each [dim]
  int64_t query[kGroup];     // index into the state
  float* block_lse[kGroup];  // each one float or null
  int32_t count;             // 1..kGroup
  const Bf16* next_k;        // tiles that come next, fetched while this group works; or null
  const Bf16* next_v;
};

// A block's partial softmax of one query, for rows whose blocks are worked on by several threads.
struct BlockPartial {
  float* sum;  // [dim]
  float maximum;
  float mass;
};

}  // namespace lectern::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2
inline constexpr int kTileVectors = 2;
#else
inline constexpr int kTileVectors = 4;
#endif

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Room for one group's probabilities in the form PairGemm reads: bf16 pairs or float pairs.
struct GroupRoom {
  HWY_ALIGN float scores[kGroup][kBlockTokens];
#if LECTERN_NATIVE_BF16
  HWY_ALIGN uint32_t pairs[kGroup][kBlockTokens / 2];
#endif
  float maximum[kGroup];
  float mass[kGroup];
};

template <int kM>
HWY_INLINE void GroupScores(const Pair* const (&q)[kM], const Bf16* k, const Bf16* next_k,
                            int pairs, int tokens, GroupRoom& room) {
  const DF df;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(k);
  for (int t = 0; t < tokens; t += kTileVectors * kLanes) {
    VF acc[kM][kTileVectors];
    for (int m = 0; m < kM; ++m) {
      for (int v = 0; v < kTileVectors; ++v) acc[m][v] = hn::Zero(df);
    }
    const uint32_t* ahead =
        next_k != nullptr ? reinterpret_cast<const uint32_t*>(next_k) + t : nullptr;
    PairGemm<kM, kTileVectors>(q, words + t, kBlockTokens, pairs, acc, ahead);
    for (int m = 0; m < kM; ++m) {
      for (int v = 0; v < kTileVectors; ++v) {
        hn::Store(acc[m][v], df, room.scores[m] + t + v * kLanes);
      }
    }
  }
}

// scores -> exp(scale (s - max)), their sum, and the pairs for the product with V. Tokens at and
// behind `tokens` become zeros up to the next whole vector, whatever their slots held.
HWY_INLINE void GroupSoftmax(int m, int tokens, float exponent, GroupRoom& room) {
  const DF df;
  float* s = room.scores[m];
  const VF minus_infinity = hn::Set(df, kMinusInfinity);
  const int whole = tokens / kLanes * kLanes;
  if (whole < tokens) {
    const auto visible = hn::FirstN(df, static_cast<size_t>(tokens - whole));
    hn::Store(hn::IfThenElse(visible, hn::Load(df, s + whole), minus_infinity), df, s + whole);
  }
  VF best = minus_infinity;
  for (int t = 0; t < tokens; t += kLanes) best = hn::Max(best, hn::Load(df, s + t));
  const float top = hn::GetLane(hn::MaxOfLanes(df, best));
  const VF vtop = hn::Set(df, top);
  const VF vexponent = hn::Set(df, exponent);
  VF sum = hn::Zero(df);
  for (int t = 0; t < tokens; t += kLanes) {
    const VF p = Exp2(hn::Mul(hn::Sub(hn::Load(df, s + t), vtop), vexponent));
    sum = hn::Add(sum, p);
#if LECTERN_NATIVE_BF16
    _mm256_store_si256(reinterpret_cast<__m256i*>(room.pairs[m] + t / 2),
                       (__m256i)_mm512_cvtneps_pbh(p.raw));
#else
    hn::Store(p, df, s + t);
#endif
  }
  room.maximum[m] = top;
  room.mass[m] = hn::GetLane(hn::SumOfLanes(df, sum));
}

// sums[m][...] of kV vectors of dims from `d`: P V over the visible tokens. A last token without a
// partner meets a masked lane, so that the unused slot beside it never enters.
template <int kM, int kV>
HWY_INLINE void GroupValues(const Pair* const (&p)[kM], const Bf16* v, const Bf16* next_v, int dim,
                            int d, int tokens, VF (&acc)[kM][kV]) {
  const DF df;
  for (int m = 0; m < kM; ++m) {
    for (int j = 0; j < kV; ++j) acc[m][j] = hn::Zero(df);
  }
  const uint32_t* words = reinterpret_cast<const uint32_t*>(v) + d;
  const uint32_t* ahead =
      next_v != nullptr ? reinterpret_cast<const uint32_t*>(next_v) + d : nullptr;
  PairGemm<kM, kV>(p, words, dim, tokens / 2, acc, ahead);
  if (tokens % 2 != 0) {
    const int last = tokens / 2;
    const Pair* tail[kM];
    for (int m = 0; m < kM; ++m) tail[m] = p[m] + last;
    PairGemm<kM, kV, true>(tail, words + int64_t{last} * dim, dim, 1, acc);
  }
}

// The two factors of a merge: old = exp(m - m'), fresh = exp(m_b - m'), m' = max(m, m_b). One of
// them is 1.
HWY_INLINE void MergeFactors(float maximum, float block_maximum, float exponent, float& old_factor,
                             float& fresh_factor) {
  const DF df;
  const float gap = maximum - block_maximum;
  const VF e = Exp2(hn::Set(df, -(gap < 0 ? -gap : gap) * exponent));
  const float factor = hn::GetLane(e);
  old_factor = gap < 0 ? factor : 1.0f;
  fresh_factor = gap < 0 ? 1.0f : factor;
}

template <int kM>
void AttendGroup(const AttentionShape& shape, const QueryGroup& g, const AttentionBlock& block,
                 int tokens, const SoftmaxState& state, BlockPartial* partials) {
  const DF df;
  GroupRoom room;
  const int pairs = shape.dim / 2;
  const Pair* q[kM];
  Pair unaligned[kM][kMaxHeadDim / 2];
  for (int m = 0; m < kM; ++m) q[m] = PairsOf(g.q[m], pairs, unaligned[m]);
  GroupScores<kM>(q, block.k, g.next_k, pairs, tokens, room);

  const float exponent = shape.scale * kLog2E;
  const Pair* p[kM];
  float old_factor[kM], fresh_factor[kM];
  for (int m = 0; m < kM; ++m) {
    GroupSoftmax(m, tokens, exponent, room);
#if LECTERN_NATIVE_BF16
    p[m] = room.pairs[m];
#else
    p[m] = reinterpret_cast<const Pair*>(room.scores[m]);
#endif
    if (g.block_lse[m] != nullptr) {
      *g.block_lse[m] = room.maximum[m] * shape.scale + std::log(room.mass[m]);
    }
    if (partials != nullptr) {
      partials[m].maximum = room.maximum[m];
      partials[m].mass = room.mass[m];
    } else {
      float& maximum = state.maximum[g.query[m]];
      float& mass = state.mass[g.query[m]];
      MergeFactors(maximum, room.maximum[m], exponent, old_factor[m], fresh_factor[m]);
      mass = mass * old_factor[m] + room.mass[m] * fresh_factor[m];
      maximum = maximum < room.maximum[m] ? room.maximum[m] : maximum;
    }
  }

  const auto values = [&](auto width, int d) HWY_ATTR {
    constexpr int kV = decltype(width)::value;
    VF acc[kM][kV];
    GroupValues<kM, kV>(p, block.v, g.next_v, shape.dim, d, tokens, acc);
    for (int m = 0; m < kM; ++m) {
      if (partials != nullptr) {
        for (int j = 0; j < kV; ++j) hn::StoreU(acc[m][j], df, partials[m].sum + d + j * kLanes);
        continue;
      }
      float* sum = state.sum + g.query[m] * shape.dim + d;
      const VF old = hn::Set(df, old_factor[m]), fresh = hn::Set(df, fresh_factor[m]);
      for (int j = 0; j < kV; ++j) {
        float* at = sum + j * kLanes;
        hn::StoreU(hn::MulAdd(acc[m][j], fresh, hn::Mul(hn::LoadU(df, at), old)), df, at);
      }
    }
  };
  int d = 0;
  for (; d + kTileVectors * kLanes <= shape.dim; d += kTileVectors * kLanes) {
    values(std::integral_constant<int, kTileVectors>(), d);
  }
  for (; d < shape.dim; d += kLanes) values(std::integral_constant<int, 1>(), d);
}

// One block for a group; into the state, or into partials[count] when that is not null.
void AttendBlock(const AttentionShape& shape, const QueryGroup& g, const AttentionBlock& block,
                 int tokens, const SoftmaxState& state, BlockPartial* partials) {
  switch (g.count) {
    case 1:
      return AttendGroup<1>(shape, g, block, tokens, state, partials);
    case 2:
      return AttendGroup<2>(shape, g, block, tokens, state, partials);
    case 3:
      return AttendGroup<3>(shape, g, block, tokens, state, partials);
    default:
      return AttendGroup<4>(shape, g, block, tokens, state, partials);
  }
}

// The merge of AttendGroup, later.
void MergePartial(const AttentionShape& shape, const BlockPartial& partial, int64_t query,
                  const SoftmaxState& state) {
  const DF df;
  float old_factor, fresh_factor;
  float& maximum = state.maximum[query];
  float& mass = state.mass[query];
  MergeFactors(maximum, partial.maximum, shape.scale * kLog2E, old_factor, fresh_factor);
  mass = mass * old_factor + partial.mass * fresh_factor;
  maximum = maximum < partial.maximum ? partial.maximum : maximum;
  const VF old = hn::Set(df, old_factor), fresh = hn::Set(df, fresh_factor);
  float* sum = state.sum + query * shape.dim;
  for (int d = 0; d < shape.dim; d += kLanes) {
    const VF scaled = hn::Mul(hn::LoadU(df, sum + d), old);
    hn::StoreU(hn::MulAdd(hn::LoadU(df, partial.sum + d), fresh, scaled), df, sum + d);
  }
}

void FinishRow(const AttentionShape& shape, const AttentionTile& tile, int row) {
  const DF df;
  const SoftmaxState state = SoftmaxState::Of(shape, tile);
  for (int h = 0; h < shape.heads; ++h) {
    const int64_t query = int64_t{row} * shape.heads + h;
    const float mass = state.mass[query];
    const bool empty = mass == 0.0f;  // no block given; otherwise the maximum itself contributed 1
    const VF inverse = hn::Set(df, empty ? 0.0f : 1.0f / mass);
    const float* sum = state.sum + query * shape.dim;
    const int64_t at = row * tile.out_row_stride + h * tile.out_head_stride;
    for (int d = 0; d < shape.dim; d += kLanes) {
      const VF o = hn::Mul(hn::LoadU(df, sum + d), inverse);
      if (tile.out != nullptr) {
        StoreBf16(o, tile.out + at + d);
      } else {
        hn::StoreU(o, df, tile.out_f32 + at + d);
      }
    }
    if (tile.lse != nullptr) {
      tile.lse[query] =
          empty ? kMinusInfinity : state.maximum[query] * shape.scale + std::log(mass);
    }
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(AttendBlock);
HWY_EXPORT(MergePartial);
HWY_EXPORT(FinishRow);

namespace {

void CheckShape(const AttentionShape& shape) {
  assert(shape.heads >= 1 && shape.heads <= kMaxGqaRatio);
  assert(shape.dim > 0 && shape.dim % 16 == 0 && shape.dim <= kMaxHeadDim);
  assert(shape.scale > 0);
  (void)shape;
}

using Attend = decltype(&LECTERN_DISPATCH(AttendBlock));

// Tokens of a block that a row sees.
int VisibleTokens(const AttentionTile& tile, int row, int block) {
  return std::min(kBlockTokens, tile.positions[row] - block * kBlockTokens + 1);
}

// Some rows of a tile.
struct TileRows {
  const AttentionTile* tile;
  int32_t first_row, end_row;
};

// A block and those of its rows that one thread works on now.
struct BlockRows {
  const AttentionTile* tile;
  const AttentionBlock* block;
  int32_t begin, end;  // entries of block->rows
};

// The blocks of several tiles in ascending order, tiles side by side within a block: where they
// share keys and values (the tiles of a chunk, one KV head), these are read once for all of them.
std::vector<BlockRows> InBlockOrder(const TileRows* parts, int64_t num_parts) {
  std::vector<BlockRows> order;
  std::vector<int32_t> cursor(static_cast<size_t>(num_parts), 0);
  for (;;) {
    int32_t lowest = std::numeric_limits<int32_t>::max();
    for (int64_t i = 0; i < num_parts; ++i) {
      const AttentionTile& tile = *parts[i].tile;
      const int32_t at = cursor[static_cast<size_t>(i)];
      if (at < tile.num_blocks) lowest = std::min(lowest, tile.blocks[at].block);
    }
    if (lowest == std::numeric_limits<int32_t>::max()) return order;
    for (int64_t i = 0; i < num_parts; ++i) {
      const AttentionTile& tile = *parts[i].tile;
      int32_t& at = cursor[static_cast<size_t>(i)];
      if (at == tile.num_blocks || tile.blocks[at].block != lowest) continue;
      const AttentionBlock& block = tile.blocks[at++];
      assert(at == tile.num_blocks || tile.blocks[at].block > block.block);
      const int32_t* rows = block.rows;
      const int32_t* begin = std::lower_bound(rows, rows + block.num_rows, parts[i].first_row);
      const int32_t* end = std::lower_bound(begin, rows + block.num_rows, parts[i].end_row);
      if (begin != end) {
        order.push_back(
            {&tile, &block, static_cast<int32_t>(begin - rows), static_cast<int32_t>(end - rows)});
      }
    }
  }
}

// Attends with one block's queries in groups; a group is full or ends where the number of visible
// tokens changes.
class GroupFeeder {
 public:
  // next: whose keys and values the first groups fetch meanwhile, or null.
  GroupFeeder(Attend attend, const AttentionShape& shape, const BlockRows& work,
              const AttentionBlock* next)
      : attend_(attend),
        shape_(shape),
        tile_(*work.tile),
        block_(*work.block),
        state_(SoftmaxState::Of(shape, *work.tile)) {
    if (next == nullptr || next->k == block_.k) return;
    next_k_ = next->k;
    next_v_ = next->v;
    // Spread over two groups where there are two.
    together_ = int64_t{work.end - work.begin} * shape.heads <= kGroup;
  }

  void Feed(int entry) {
    const int row = block_.rows[entry];
    const int tokens = VisibleTokens(tile_, row, block_.block);
    assert(row >= 0 && row < tile_.rows && tokens >= 1);
    if (tokens != tokens_) Flush();
    tokens_ = tokens;
    for (int h = 0; h < shape_.heads; ++h) {
      const int i = group_.count++;
      group_.q[i] = tile_.q + row * tile_.q_row_stride + h * tile_.q_head_stride;
      group_.query[i] = int64_t{row} * shape_.heads + h;
      group_.block_lse[i] = block_.block_lse != nullptr
                                ? block_.block_lse + int64_t{entry} * shape_.heads + h
                                : nullptr;
      if (group_.count == kGroup) Flush();
    }
  }

  void Flush() {
    if (group_.count == 0) return;
    group_.next_k = std::exchange(next_k_, nullptr);
    const bool values_now = together_ || group_.next_k == nullptr;
    group_.next_v = values_now ? std::exchange(next_v_, nullptr) : nullptr;
    attend_(shape_, group_, block_, tokens_, state_, nullptr);
    group_.count = 0;
  }

 private:
  Attend attend_;
  const AttentionShape& shape_;
  const AttentionTile& tile_;
  const AttentionBlock& block_;
  SoftmaxState state_;
  QueryGroup group_ = {};
  int tokens_ = 0;
  const Bf16* next_k_ = nullptr;
  const Bf16* next_v_ = nullptr;
  bool together_ = false;
};

void AttendParts(const AttentionShape& shape, const TileRows* parts, int64_t num_parts) {
  const Attend attend = &LECTERN_DISPATCH(AttendBlock);
  const std::vector<BlockRows> order = InBlockOrder(parts, num_parts);
  for (size_t i = 0; i < order.size(); ++i) {
    GroupFeeder feeder(attend, shape, order[i],
                       i + 1 < order.size() ? order[i + 1].block : nullptr);
    for (int32_t e = order[i].begin; e < order[i].end; ++e) feeder.Feed(e);
    feeder.Flush();
  }
}

// Work for the threads: whole tiles, several neighbours together, where there are enough of them;
// else pieces of tiles.
std::vector<std::vector<TileRows>> SplitTiles(const AttentionTile* tiles, int64_t num_tiles,
                                              int threads) {
  constexpr int kLeastRows = 16;  // of a piece: each reads all its blocks' keys and values
  const int64_t wanted = 2 * int64_t{threads};
  const int64_t jobs = std::min(wanted, num_tiles);
  std::vector<std::vector<TileRows>> split;
  for (int64_t j = 0; j < jobs; ++j) {
    split.emplace_back();
    for (int64_t t = num_tiles * j / jobs; t < num_tiles * (j + 1) / jobs; ++t) {
      split.back().push_back({&tiles[t], 0, tiles[t].rows});
    }
  }
  if (threads == 1 || num_tiles >= wanted) return split;
  std::vector<std::vector<TileRows>> pieces;
  for (int64_t t = 0; t < num_tiles; ++t) {
    const int parts = static_cast<int>(std::clamp<int64_t>(
        (wanted + num_tiles - 1) / num_tiles, 1, std::max(1, tiles[t].rows / kLeastRows)));
    for (int i = 0; i < parts; ++i) {
      pieces.push_back({{&tiles[t], tiles[t].rows * i / parts, tiles[t].rows * (i + 1) / parts}});
    }
  }
  return pieces;
}

// One (tile, block) of tiles of one row: heads as groups, into partials.
struct BlockJob {
  int64_t tile;
  int32_t block;
  int64_t partial;  // of the block's first head
};

// Decode with more threads than tiles: every block on its own, then merged in ascending order,
// which gives the bits that AttendParts gives.
void AttendBlocks(const AttentionShape& shape, const AttentionTile* tiles, int64_t num_tiles) {
  std::vector<BlockJob> jobs;
  int64_t count = 0;
  for (int64_t t = 0; t < num_tiles; ++t) {
    for (int i = 0; i < tiles[t].num_blocks; ++i) {
      if (tiles[t].blocks[i].num_rows == 0) continue;
      jobs.push_back({t, i, count});
      count += shape.heads;
    }
  }
  std::vector<float> sums(static_cast<size_t>(count * shape.dim));
  std::vector<BlockPartial> partials(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    partials[static_cast<size_t>(i)].sum = sums.data() + i * shape.dim;
  }
  const Attend attend = &LECTERN_DISPATCH(AttendBlock);
#pragma omp parallel for schedule(static)
  for (size_t j = 0; j < jobs.size(); ++j) {
    const AttentionTile& tile = tiles[jobs[j].tile];
    const AttentionBlock& block = tile.blocks[jobs[j].block];
    const int tokens = VisibleTokens(tile, 0, block.block);
    assert(tokens >= 1);
    for (int h = 0; h < shape.heads; h += kGroup) {
      QueryGroup g = {};
      g.count = std::min(kGroup, shape.heads - h);
      for (int i = 0; i < g.count; ++i) {
        g.q[i] = tile.q + (h + i) * tile.q_head_stride;
        g.query[i] = h + i;
        g.block_lse[i] = block.block_lse != nullptr ? block.block_lse + h + i : nullptr;
      }
      attend(shape, g, block, tokens, SoftmaxState::Of(shape, tile),
             partials.data() + jobs[j].partial + h);
    }
  }
  const auto merge = &LECTERN_DISPATCH(MergePartial);
  for (const BlockJob& job : jobs) {
    const SoftmaxState state = SoftmaxState::Of(shape, tiles[job.tile]);
    for (int h = 0; h < shape.heads; ++h) {
      merge(shape, partials[static_cast<size_t>(job.partial + h)], h, state);
    }
  }
}

}  // namespace

int64_t AttentionStateFloats(const AttentionShape& shape, int32_t rows) {
  return int64_t{rows} * shape.heads * (shape.dim + 2);
}

void BeginAttention(const AttentionShape& shape, const AttentionTile* tiles, int64_t num_tiles) {
  CheckShape(shape);
#pragma omp parallel for schedule(static) if (num_tiles >= 8)
  for (int64_t t = 0; t < num_tiles; ++t) {
    const SoftmaxState state = SoftmaxState::Of(shape, tiles[t]);
    const int64_t queries = int64_t{tiles[t].rows} * shape.heads;
    std::fill_n(state.sum, queries * shape.dim, 0.0f);
    std::fill_n(state.maximum, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(state.mass, queries, 0.0f);
  }
}

void AccumulateAttention(const AttentionShape& shape, const AttentionTile* tiles,
                         int64_t num_tiles) {
  CheckShape(shape);
  const int threads = omp_get_max_threads();
  int64_t rows = 0;
  for (int64_t t = 0; t < num_tiles; ++t) {
    assert(tiles[t].rows >= 1 && tiles[t].rows <= kMaxAttentionRows);
    rows += tiles[t].rows;
  }
  if (rows == num_tiles && num_tiles < threads) return AttendBlocks(shape, tiles, num_tiles);
  const std::vector<std::vector<TileRows>> jobs = SplitTiles(tiles, num_tiles, threads);
#pragma omp parallel for schedule(dynamic, 1) if (jobs.size() > 1)
  for (size_t j = 0; j < jobs.size(); ++j) {
    AttendParts(shape, jobs[j].data(), static_cast<int64_t>(jobs[j].size()));
  }
}

void FinishAttention(const AttentionShape& shape, const AttentionTile* tiles, int64_t num_tiles) {
  CheckShape(shape);
  const auto finish = &LECTERN_DISPATCH(FinishRow);
#pragma omp parallel for schedule(static) if (num_tiles >= 4)
  for (int64_t t = 0; t < num_tiles; ++t) {
    assert((tiles[t].out != nullptr) != (tiles[t].out_f32 != nullptr));
    for (int r = 0; r < tiles[t].rows; ++r) finish(shape, tiles[t], r);
  }
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
