// The way to the GPU for those who know no CUDA. Without a CUDA toolkit at build time it says that
// there is none.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/device/device.h"

namespace lectern::engine {

// The first GPU (CUDA_VISIBLE_DEVICES decides which that is).
//   UNAVAILABLE NO_GPU: no driver, no GPU of compute capability 9.0, no cuBLASLt, or a build
//   without
//     CUDA; the message says which
absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice();

}  // namespace lectern::engine
