#pragma once

// kernels/cuda/launch.h on the GPU of the tests.

#include <cuda_runtime.h>

namespace lectern::kernels::cuda {

struct Device {
  int multiprocessors = 0;
  bool hopper = false;
};

inline Device CurrentDevice() {
  return {simt::TheMachine().multiprocessors, simt::TheMachine().hopper};
}

struct LaunchShape {
  dim3 grid;
  int threads;
  size_t shared = 0;
  int cluster = 1;
  bool overlap = false;
};

template <typename... Params, typename... Args>
cudaError_t Launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
                   const Args&... args) {
  const auto run = [=] {
    simt::RunGrid({shape.grid.x, shape.grid.y, shape.grid.z}, shape.threads, shape.shared,
                  shape.cluster, [=] { kernel(args...); });
  };
  if (stream != nullptr && stream->captured) {
    stream->launches.emplace_back(run);
  } else {
    run();
  }
  return cudaSuccess;
}

}  // namespace lectern::kernels::cuda
