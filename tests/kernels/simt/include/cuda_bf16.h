#pragma once

#include <bit>

#include "kernels/bf16/bf16.h"

struct __nv_bfloat16 {
  uint16_t x;
};

inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {lectern::kernels::ToBf16(x).bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.x; }
