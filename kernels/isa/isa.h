#pragma once

// Which instruction set the CPU kernels run on. Decided once, at the first call, from what the
// processor has and from the environment variable LECTERN_CPU_ISA, which lowers it (values: scalar,
// avx2, avx512, avx512bf16). A value that is unknown, or above what the processor has, ends the
// process with a message: a silent other path would change results.
//
// Every kernel is compiled once per path and picks its copy when called. Results differ between
// paths by rounding, so the path belongs to the provenance of whatever is stored.

#include <string>

namespace lectern::kernels {

enum class Isa {
  kScalar = 0,  // one lane; any processor, slow: keeps the product alive where nothing better is
  kAvx2 = 1,    // AVX2 with FMA; bf16 widened to fp32 by shift and mask
  kAvx512 = 2,  // AVX-512 F, VL, DQ, BW; same arithmetic on 16 lanes
  kAvx512Bf16 = 3,  // and vdpbf16ps (Zen 4, Sapphire Rapids and later)
};

// The path in use; constant for the life of the process. Thread-safe.
Isa CurrentIsa();

// "scalar", "avx2", "avx512", "avx512bf16": for metrics, logs and provenance.
const char* IsaName(Isa isa);

// Changes whenever a kernel's arithmetic changes so that stored bytes may differ.
inline constexpr int kKernelsVersion = 1;

}  // namespace lectern::kernels
