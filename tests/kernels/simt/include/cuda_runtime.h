#pragma once

// CUDA C++ and its runtime for the GPU of the tests: what kernels and their tests use of it.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "tests/kernels/simt/simt.h"

#define __CUDA_ARCH__ 900
#define __CUDA_ARCH_FEAT_SM90_ALL
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (::lectern::kernels::simt::ThreadIndex())
#define blockIdx (::lectern::kernels::simt::BlockIndex())
#define blockDim (::lectern::kernels::simt::BlockShape())
#define gridDim (::lectern::kernels::simt::GridShape())

// A stream runs what is launched at once, or writes it down while it is captured.
struct CUstream_st {
  bool captured = false;
  std::vector<std::function<void()>> launches;
};
using cudaStream_t = CUstream_st*;
using cudaGraph_t = std::vector<std::function<void()>>*;
using cudaGraphExec_t = cudaGraph_t;
enum { cudaStreamCaptureModeGlobal };
enum { cudaDevAttrMultiProcessorCount };
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}  // NOLINT: as CUDA's
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline int min(int a, int b) { return std::min(a, b); }
inline int max(int a, int b) { return std::max(a, b); }
inline unsigned max(unsigned a, unsigned b) { return std::max(a, b); }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return std::max(a, b); }
inline float rsqrtf(float x) { return static_cast<float>(1 / std::sqrt(static_cast<double>(x))); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

inline float __fmul_rn(float x, float y) { return x * y; }  // compiled without contraction
inline float __fadd_rn(float x, float y) { return x + y; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t both = uint64_t{b} << 32 | a;
  unsigned out = 0;
  for (int i = 0; i < 4; ++i)
    out |= static_cast<unsigned>(both >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  return out;
}

template <typename T>
T __ldcg(const T* p) {
  return *p;
}
// Threads change places at waits only.
template <typename T>
T atomicAdd(T* to, T x) {
  const T before = *to;
  *to += x;
  return before;
}

inline void __syncthreads() { lectern::kernels::simt::BlockBarrier(0, 0); }
inline void __syncwarp() {
  const char nothing = 0;
  lectern::kernels::simt::WarpExchange(&nothing, sizeof(nothing));
}
template <typename T>
T LecternOfLane(T mine, unsigned lane) {
  const void* all = lectern::kernels::simt::WarpExchange(&mine, sizeof(T));
  T theirs;
  std::memcpy(&theirs, static_cast<const char*>(all) + lane * sizeof(T), sizeof(T));
  return theirs;
}
template <typename T>
T __shfl_sync(unsigned, T x, int lane) {
  return LecternOfLane(x, static_cast<unsigned>(lane) % 32);
}
template <typename T>
T __shfl_xor_sync(unsigned, T x, int d) {
  return LecternOfLane(x, threadIdx.x % 32 ^ static_cast<unsigned>(d));
}
template <typename T>
T __shfl_up_sync(unsigned, T x, int d) {
  const unsigned lane = threadIdx.x % 32, up = static_cast<unsigned>(d);
  return LecternOfLane(x, lane >= up ? lane - up : lane);
}
template <typename T>
T __reduce_max_sync(unsigned, T x) {
  const T* all = static_cast<const T*>(lectern::kernels::simt::WarpExchange(&x, sizeof(T)));
  return *std::max_element(all, all + 32);
}
template <typename T>
T __reduce_min_sync(unsigned, T x) {
  const T* all = static_cast<const T*>(lectern::kernels::simt::WarpExchange(&x, sizeof(T)));
  return *std::min_element(all, all + 32);
}

// --- The host's side. Device memory is memory.

template <typename T>
T __reduce_add_sync(unsigned, T x) {
  const T* all = static_cast<const T*>(lectern::kernels::simt::WarpExchange(&x, sizeof(T)));
  return std::accumulate(all, all + 32, T{});
}

struct cudaDeviceProp {
  int major;
};
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* to, int) {
  to->major = lectern::kernels::simt::TheMachine().hopper ? 9 : 8;
  return cudaSuccess;
}
template <typename T>
cudaError_t cudaMalloc(T** to, size_t bytes) {
  *to = static_cast<T*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* p) { return std::free(p), cudaSuccess; }
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemset(void* to, int byte, size_t bytes) {
  return std::memset(to, byte, bytes), cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* to, int, int) {
  return *to = lectern::kernels::simt::TheMachine().multiprocessors, cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t* to) { return *to = new CUstream_st, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, int) {
  return stream->captured = true, cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* to) {
  stream->captured = false;
  *to = new std::vector(std::move(stream->launches));
  stream->launches.clear();
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* to, cudaGraph_t graph, int) {
  return *to = new std::vector(*graph), cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (const auto& launch : *graph) launch();
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
