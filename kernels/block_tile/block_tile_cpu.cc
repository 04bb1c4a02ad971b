#include "kernels/block_tile/block_tile.h"

#include <cassert>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/block_tile/block_tile_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

// A key tile is the transpose, in 32-bit words, of the neutral rows. Square pieces of 8 x 8 words
// (or the rest) keep both sides in whole cache lines' parts.
inline constexpr int kPiece = 8;

// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < cols.
HWY_INLINE void TransposeWords(const uint32_t* in, int64_t in_stride, int64_t rows, int64_t cols,
                               uint32_t* out, int64_t out_stride) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<uint32_t, 4> d4;
  for (; i + 4 <= rows; i += 4) {
    const uint32_t* r = in + i * in_stride;
    int64_t j = 0;
    for (; j + 4 <= cols; j += 4) {
      const auto a = hn::LoadU(d4, r + j);
      const auto b = hn::LoadU(d4, r + in_stride + j);
      const auto c = hn::LoadU(d4, r + 2 * in_stride + j);
      const auto d = hn::LoadU(d4, r + 3 * in_stride + j);
      const auto ac0 = hn::InterleaveLower(d4, a, c);
      const auto ac1 = hn::InterleaveUpper(d4, a, c);
      const auto bd0 = hn::InterleaveLower(d4, b, d);
      const auto bd1 = hn::InterleaveUpper(d4, b, d);
      uint32_t* o = out + j * out_stride + i;
      hn::StoreU(hn::InterleaveLower(d4, ac0, bd0), d4, o);
      hn::StoreU(hn::InterleaveUpper(d4, ac0, bd0), d4, o + out_stride);
      hn::StoreU(hn::InterleaveLower(d4, ac1, bd1), d4, o + 2 * out_stride);
      hn::StoreU(hn::InterleaveUpper(d4, ac1, bd1), d4, o + 3 * out_stride);
    }
    for (; j < cols; ++j) {
      for (int s = 0; s < 4; ++s) out[j * out_stride + i + s] = r[s * in_stride + j];
    }
  }
#endif
  for (; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) out[j * out_stride + i] = in[i * in_stride + j];
  }
}

// Rows must be 4-byte aligned (row_stride even); the caller sees to it.
void PackKeyWords(const TileRun& run, const uint32_t* rows, int64_t row_words, uint32_t* tile) {
  for (int64_t t = 0; t < run.count; t += 4 * kPiece) {
    const int64_t n = HWY_MIN(int64_t{4 * kPiece}, run.count - t);
    TransposeWords(rows + t * row_words, row_words, n, run.dim / 2, tile + run.first + t,
                   kBlockTokens);
  }
}

void UnpackKeyWords(const TileRun& run, const uint32_t* tile, uint32_t* rows, int64_t row_words) {
  for (int64_t t = 0; t < run.count; t += 4 * kPiece) {
    const int64_t n = HWY_MIN(int64_t{4 * kPiece}, run.count - t);
    TransposeWords(tile + run.first + t, kBlockTokens, run.dim / 2, n, rows + t * row_words,
                   row_words);
  }
}

// Two tokens' rows into one row of pairs and back.
void InterleaveTokens(const Bf16* even, const Bf16* odd, int64_t dim, Bf16* pairs) {
  const DU du;
  const hn::Rebind<uint16_t, DU> d16;
  uint32_t* out = reinterpret_cast<uint32_t*>(pairs);
  for (int64_t i = 0; i < dim; i += kLanes) {
    const auto lo = hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(even + i)));
    const auto hi = hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(odd + i)));
    hn::StoreU(hn::Or(lo, hn::ShiftLeft<16>(hi)), du, out + i);
  }
}

void DeinterleaveTokens(const Bf16* pairs, int64_t dim, Bf16* even, Bf16* odd) {
  const DU du;
  const DI di;
  const hn::Rebind<uint16_t, DU> d16;
  const uint32_t* in = reinterpret_cast<const uint32_t*>(pairs);
  for (int64_t i = 0; i < dim; i += kLanes) {
    const auto words = hn::LoadU(du, in + i);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::And(words, hn::Set(du, 0xffffu)))), d16,
               reinterpret_cast<uint16_t*>(even + i));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(words))), d16,
               reinterpret_cast<uint16_t*>(odd + i));
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(PackKeyWords);
HWY_EXPORT(UnpackKeyWords);
HWY_EXPORT(InterleaveTokens);
HWY_EXPORT(DeinterleaveTokens);

namespace {

void CheckRun(const TileRun& run, const Bf16* tile) {
  assert(run.first >= 0 && run.count >= 0 && run.first + run.count <= kBlockTokens);
  assert(run.dim > 0 && run.dim % 16 == 0 && run.dim <= kMaxHeadDim);
  assert(reinterpret_cast<uintptr_t>(tile) % kTileAlignment == 0);
  (void)run, (void)tile;
}

bool WordAligned(const Bf16* rows, int64_t row_stride) {
  return reinterpret_cast<uintptr_t>(rows) % sizeof(uint32_t) == 0 && row_stride % 2 == 0;
}

}  // namespace

void PackKeys(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile) {
  CheckRun(run, tile);
  if (!WordAligned(rows, row_stride)) return PackKeysReference(run, rows, row_stride, tile);
  LECTERN_DISPATCH(PackKeyWords)
  (run, reinterpret_cast<const uint32_t*>(rows), row_stride / 2, reinterpret_cast<uint32_t*>(tile));
}

void UnpackKeys(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride) {
  CheckRun(run, tile);
  if (!WordAligned(rows, row_stride)) return UnpackKeysReference(run, tile, rows, row_stride);
  LECTERN_DISPATCH(UnpackKeyWords)
  (run, reinterpret_cast<const uint32_t*>(tile), reinterpret_cast<uint32_t*>(rows), row_stride / 2);
}

void PackValues(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile) {
  CheckRun(run, tile);
  const auto interleave = &LECTERN_DISPATCH(InterleaveTokens);
  const int end = run.first + run.count;
  for (int t = run.first; t < end;) {
    const Bf16* row = rows + (t - run.first) * row_stride;
    Bf16* pairs = tile + int64_t{t / 2} * run.dim * 2;
    if (t % 2 == 0 && t + 1 < end) {
      interleave(row, row + row_stride, run.dim, pairs);
      t += 2;
    } else {  // one half of a pair: the other half is another run's
      for (int d = 0; d < run.dim; ++d) pairs[2 * d + t % 2] = row[d];
      t += 1;
    }
  }
}

void UnpackValues(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride) {
  CheckRun(run, tile);
  const auto deinterleave = &LECTERN_DISPATCH(DeinterleaveTokens);
  const int end = run.first + run.count;
  for (int t = run.first; t < end;) {
    Bf16* row = rows + (t - run.first) * row_stride;
    const Bf16* pairs = tile + int64_t{t / 2} * run.dim * 2;
    if (t % 2 == 0 && t + 1 < end) {
      deinterleave(pairs, run.dim, row, row + row_stride);
      t += 2;
    } else {
      for (int d = 0; d < run.dim; ++d) row[d] = pairs[2 * d + t % 2];
      t += 1;
    }
  }
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
