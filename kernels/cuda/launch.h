#pragma once

// How kernels of this tree are launched. For .cu files, host side.
//
// Kernels that need no sm_90 are compiled for sm_80 too, machine code and PTX, which is what every
// GPU but sm_90 runs. Only code made for sm_90 waits for earlier kernels by itself (warp.h), so
// only its launches may overlap.

#include <cuda_runtime.h>

namespace lectern::kernels::cuda {

struct Device {
  int multiprocessors = 0;
  bool hopper = false;  // and runs what was made for it
};

static __global__ void Probe() {}

// Of a GPU of sm_90 the driver can be told to run the PTX of sm_80 (CUDA_FORCE_PTX_JIT=1: a test of
// that code without such a GPU), so the code is asked.
inline bool MadeForHopper() {
  cudaFuncAttributes attributes = {};
  return cudaFuncGetAttributes(&attributes, Probe) == cudaSuccess && attributes.ptxVersion >= 90;
}

inline Device CurrentDevice() {
  Device device;
  int id = 0, major = 0;
  cudaGetDevice(&id);
  cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, id);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, id);
  if (major == 9) {
    static const bool made_for_hopper = MadeForHopper();
    device.hopper = made_for_hopper;
  }
  return device;
}

struct LaunchShape {
  dim3 grid;
  int threads;
  size_t shared = 0;     // dynamic, bytes
  int cluster = 1;       // blocks of threads that share memory: sm_90
  bool overlap = false;  // may begin before the kernel before it has ended, and waits by itself
};

template <typename... Params, typename... Args>
cudaError_t Launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
                   const Args&... args) {
  constexpr size_t kSharedOfAnyKernel = 48 * 1024;
  constexpr int kPortableCluster = 8;
  cudaError_t error = cudaSuccess;
  if (shape.shared > kSharedOfAnyKernel)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared));
  if (error == cudaSuccess && shape.cluster > kPortableCluster)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (shape.overlap) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    attributes[count].val.clusterDim.y = 1;
    attributes[count++].val.clusterDim.z = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = shape.shared;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace lectern::kernels::cuda
