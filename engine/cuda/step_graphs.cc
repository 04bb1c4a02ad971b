#include "engine/cuda/step_graphs.h"

#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {

StepGraphs::Graph::~Graph() {
  if (exec != nullptr) cudaGraphExecDestroy(exec);  // one that still runs goes when it has ended
}

// Null where something does not want to be captured. The stream is out of the capture either way.
std::unique_ptr<StepGraphs::Graph> StepGraphs::Capture(cudaStream_t stream,
                                                       const std::function<absl::Status()>& make) {
  auto made = std::make_unique<Graph>();
  cudaGraph_t graph = nullptr;
  bool captured = false;
  // Other threads may do what they like meanwhile.
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const absl::Status enqueued = make();
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    captured = enqueued.ok() && ended == cudaSuccess &&
               cudaGraphInstantiate(&made->exec, graph, 0) == cudaSuccess &&
               cudaGraphUpload(made->exec, stream) == cudaSuccess;  // or there is no memory for it
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (captured) return made;
  // A device that failed says so again; what was only refused must not be found by later calls.
  cudaGetLastError();
  return nullptr;
}

absl::StatusOr<bool> StepGraphs::Run(std::span<const DeviceCall> calls, cudaStream_t stream,
                                     const std::function<absl::Status()>& make) {
  CallHistory<Graph>::Sequence& sequence = history_.Find(calls);
  // By the second time all that is made when first used is there: code, choices of algorithms.
  if (sequence.seen == 2) sequence.replay = Capture(stream, make);
  if (sequence.replay == nullptr) {
    LECTERN_RETURN_IF_ERROR(make());
    return false;
  }
  if (const cudaError_t error = cudaGraphLaunch(sequence.replay->exec, stream);
      error != cudaSuccess) {
    return Error(absl::StatusCode::kInternal, "DEVICE_FAILED",
                 fmt::format("the GPU failed (replaying a step): {}", cudaGetErrorString(error)));
  }
  return true;
}

}  // namespace lectern::engine
