#pragma once

// Cosines and sines of a batch's rows, shared by all layers and heads of a step: angle(pos, i) =
// pos * theta^(-2i/rotary_dim), i in [0, rotary_dim/2), computed in fp64, cos and sin rounded to
// fp32. Positions up to 2^20 and beyond: nothing is kept between batches, so no table of a million
// rows exists. Cost: one fp64 sincos per row and pair, parallel over rows.

#include <cstdint>

namespace lectern::kernels {

struct RopeTableParams {
  const int32_t* positions;  // [rows], >= 0
  int64_t rows;
  int32_t rotary_dim;  // even, > 0
  double theta;
  float* cos;  // [rows][rotary_dim/2]
  float* sin;  // [rows][rotary_dim/2]
};
void FillRopeTable(const RopeTableParams& params);

}  // namespace lectern::kernels
