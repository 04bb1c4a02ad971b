// Sequences of launches that come again, as CUDA graphs: a decode step is a hundred launches of a
// few microseconds each, and launching them one by one takes longer than they do.
//
// A graph holds the parameters that its launches had when it was captured, so it is used for a
// sequence that is equal in every one of them, and for no other. What came once is only remembered;
// what comes a second time is captured. Where CUDA refuses, the calls are made one by one.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/device/device_calls.h"

namespace lectern::engine {

class StepGraphs {
 public:
  // Makes `calls` on `stream`, and returns whether a graph did. `make` makes them one by one; work
  // that it puts on other streams must fork from `stream` and have joined it again.
  absl::StatusOr<bool> Run(std::span<const DeviceCall> calls, cudaStream_t stream,
                           const std::function<absl::Status()>& make);
  // Forgets all: what they were captured with is no longer there.
  void Clear() { history_.Clear(); }

 private:
  // Batches of every size (kMaxDecodeRows), observed and not. Bounds what graphs take of the GPU's
  // memory.
  static constexpr size_t kMostSequences = 128;

  struct Graph {
    ~Graph();
    cudaGraphExec_t exec = nullptr;
  };
  static std::unique_ptr<Graph> Capture(cudaStream_t stream,
                                        const std::function<absl::Status()>& make);

  CallHistory<Graph> history_{kMostSequences};
};

}  // namespace lectern::engine
