#include "engine/cuda/cuda_backend.h"
#include "engine/error/error.h"

namespace lectern::engine {

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice() {
  return Error(absl::StatusCode::kUnavailable, "NO_GPU",
               "this program was built without a CUDA toolkit and has no code for a GPU");
}

}  // namespace lectern::engine
