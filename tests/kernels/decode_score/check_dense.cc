#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/decode_dense/decode_dense.h"
#include "tests/kernels/decode_score/decode_checks.h"

namespace lectern::kernels::testing {

void CheckDense(const Case& c, int splits) {
  Decode decode(c);
  DecodeDenseParams p = {};
  p.q = decode.d_q.get();
  p.k = decode.d_k.get();
  p.v = decode.d_v.get();
  p.pages = decode.d_pages.get();
  p.pages_stride = decode.stride;
  p.positions = decode.d_positions.get();
  p.rows = decode.rows;
  p.groups = c.groups;
  p.heads = c.heads;
  p.dim = c.dim;
  p.splits = splits;
  p.scale = 1 / std::sqrt(static_cast<float>(c.dim));
  DeviceArray<float> scratch(static_cast<size_t>(DecodeDenseScratchFloats(p)));
  p.scratch = scratch.get();
  p.out = decode.out.get();
  p.lse = decode.lse.get();
  scratch.Fill(0xff);
  decode.Poison();
  Check(DecodeDense(p, nullptr), "DecodeDense");
  const Decode::Result dense = decode.Read();
  for (int i = 0; i < 5; ++i) {
    decode.Poison();
    Check(DecodeDense(p, nullptr), "DecodeDense");
    EXPECT_TRUE(decode.Read() == dense) << i;
  }
  // The reference with every block chosen, and, where sixteen are all, the sparse kernel.
  const int most = static_cast<int>(decode.stride);
  std::vector<int32_t> all(decode.RowGroups() * static_cast<size_t>(most), -1);
  for (size_t rg = 0; rg < decode.RowGroups(); ++rg)
    for (int b = 0; b <= decode.positions[rg / c.groups] / 128; ++b)
      all[rg * static_cast<size_t>(most) + static_cast<size_t>(b)] = b;
  decode.CheckDense(dense, all, most);
  const Decode::Result sparse = decode.Run();
  double worst = 0;
  for (size_t i = 0; i < sparse.out.size(); ++i) {
    const int position = decode.positions[i / (size_t{1} * c.groups * c.heads * c.dim)];
    if (position >= 2048) continue;
    worst = std::max(worst, std::fabs(double{ToFloat(sparse.out[i])} - ToFloat(dense.out[i])));
  }
  EXPECT_LE(worst, 1e-2);
}

}  // namespace lectern::kernels::testing
