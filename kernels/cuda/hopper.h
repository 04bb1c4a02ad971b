#pragma once

// What sm_90a has and CUDA C++ has no words for: barriers in shared memory that count bytes, copies
// of whole tiles by the copy engine, and matrix products of a warpgroup (PTX ISA 8.0: mbarrier,
// cp.async.bulk.tensor, wgmma).
//
// Tiles in shared memory are `rows` rows of bf16 cut into panels of 64 columns. In a panel a row is
// 128 bytes, eight pieces of 16, and piece c of row r lies at place c xor (r mod 8): WGMMA's
// 128-byte swizzle, so that neither the copies nor the products meet bank conflicts. Panels start
// at multiples of 1024 bytes.
//
// Device code for kernels/ only; nothing here synchronises with the host.

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/warp.h"

namespace lectern::kernels::hopper {

inline constexpr int kWarpgroupThreads = 128;
inline constexpr int kPanelColumns = 64;
inline constexpr int kSwizzleAlignment = 1024;

// Byte of piece `piece` (8 columns) of row `row` in a tile of `rows` rows.
__host__ __device__ constexpr int TileOffset(int rows, int row, int piece) {
  return (piece >> 3) * rows * 128 + row * 128 + (((piece & 7) ^ (row & 7)) << 4);
}

using cuda::SharedAddress;

// --- Barriers

__device__ __forceinline__ void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(arrivals));
}

// Makes barriers that this thread initialised known to the copy engine.
__device__ __forceinline__ void PublishBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives, and announces `bytes` more that the phase has to wait for.
__device__ __forceinline__ void ArriveExpecting(uint64_t* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}

__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// Until the phase of this parity is complete.
__device__ __forceinline__ void Wait(uint64_t* barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// Ordinary stores of this thread to shared memory become visible to the copy engine and to WGMMA.
__device__ __forceinline__ void PublishStores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// --- Copies

__device__ __forceinline__ void PrefetchMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// The map's box at (column, row) to shared memory; its bytes count on the barrier.
__device__ __forceinline__ void CopyBox(void* to, const CUtensorMap* map, int column, int row,
                                        uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(SharedAddress(to)),
      "l"(map), "r"(column), "r"(row), "r"(SharedAddress(barrier))
      : "memory");
}

// Neighbouring bytes to shared memory; they count on the barrier. Both addresses and the size are
// multiples of 16.
__device__ __forceinline__ void CopyBytes(void* to, const void* from, int bytes,
                                          uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}

// A tile of kRows x kDim whose first row is `row`; the map's box is kRows x kPanelColumns.
template <int kRows, int kDim>
__device__ __forceinline__ void CopyTile(uint8_t* to, const CUtensorMap* map, int row,
                                         uint64_t* barrier) {
#pragma unroll
  for (int panel = 0; panel < kDim / kPanelColumns; ++panel)
    CopyBox(to + panel * kRows * 128, map, panel * kPanelColumns, row, barrier);
}

// --- Products of a warpgroup

// K-major operand: groups of 8 rows are 1024 bytes apart. Steps of 16 columns inside a panel add 32
// bytes to the address.
__device__ __forceinline__ uint64_t RowDescriptor(uint32_t address) {
  return uint64_t{(address & 0x3ffff) >> 4} | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}

// Operand with contiguous columns (MN-major), panels `panel_bytes` apart. Steps of 16 rows add 2048
// bytes to the address.
__device__ __forceinline__ uint64_t ColumnDescriptor(uint32_t address, uint32_t panel_bytes) {
  return uint64_t{(address & 0x3ffff) >> 4} | uint64_t{panel_bytes >> 4} << 16 |
         uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

__device__ __forceinline__ void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kPending of the committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Products run behind the compiler's back: what reads or changes these registers stays on its side.
template <int kCount>
__device__ __forceinline__ void PinRegisters(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// What an instruction calls its first 32 or 64 operands, and the registers that they are.
#define LECTERN_OPERANDS_32                                \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LECTERN_OPERANDS_64                                           \
  LECTERN_OPERANDS_32                                                 \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LECTERN_REGISTERS_8(d, i)                                                             \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define LECTERN_REGISTERS_32(d, i)                                                          \
  LECTERN_REGISTERS_8(d, i), LECTERN_REGISTERS_8(d, i + 8), LECTERN_REGISTERS_8(d, i + 16), \
      LECTERN_REGISTERS_8(d, i + 24)
#define LECTERN_REGISTERS_64(d) LECTERN_REGISTERS_32(d, 0), LECTERN_REGISTERS_32(d, 32)

// d = A B^T (+ d if accumulate): A 64 x 16 and B 128 x 16, both K-major in shared memory.
__device__ __forceinline__ void MultiplySharedShared(float (&d)[64], uint64_t a, uint64_t b,
                                                     int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" LECTERN_OPERANDS_64
      "}, "
      "%64, %65, p, 1, 1, 0, 0;\n}\n"
      : LECTERN_REGISTERS_64(d)
      : "l"(a), "l"(b), "r"(accumulate));
}

// d += A B: A 64 x 16 in registers, B 16 x 128 in shared memory with its 128 columns contiguous.
__device__ __forceinline__ void MultiplyRegistersShared(float (&d)[64], const uint32_t (&a)[4],
                                                        uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" LECTERN_OPERANDS_64
      "}, "
      "{%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"
      : LECTERN_REGISTERS_64(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// d += A B: A 64 x 16 in registers, B 16 x 64 in shared memory with its 64 columns contiguous.
__device__ __forceinline__ void MultiplyRegistersShared(float (&d)[32], const uint32_t (&a)[4],
                                                        uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" LECTERN_OPERANDS_32
      "}, "
      "{%32,%33,%34,%35}, %36, 1, 1, 1, 1;\n"
      : LECTERN_REGISTERS_32(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef LECTERN_OPERANDS_32
#undef LECTERN_OPERANDS_64
#undef LECTERN_REGISTERS_8
#undef LECTERN_REGISTERS_32
#undef LECTERN_REGISTERS_64

// d = A B^T, finished: 64 rows of a tile of kRows, and a tile of 128 rows, both of kDim columns.
template <int kRows, int kDim>
__device__ __forceinline__ void MultiplyTiles(float (&d)[64], uint32_t a_at, uint32_t b_at) {
  BeginProducts();
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k)
    MultiplySharedShared(d, RowDescriptor(a_at + (k >> 2) * kRows * 128 + (k & 3) * 32),
                         RowDescriptor(b_at + (k >> 2) * 128 * 128 + (k & 3) * 32), k > 0);
  CommitProducts();
  WaitProducts<0>();
  PinRegisters(d);
}

// --- Registers: by all warps of a warpgroup. A thread block owns what it started with (registers a
// thread times threads), not what the multiprocessor has: who takes more waits for ever.

template <int kCount>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace lectern::kernels::hopper
