// A GPU as the forward pass knows devices: every call is a launch, a copy, or cuBLASLt.
//
// One stream computes; a second brings results to the host meanwhile. What is Replayable is
// replayed by CUDA graphs (step_graphs.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda/lt_matmul.h"
#include "engine/cuda/step_graphs.h"
#include "engine/device/device.h"
#include "engine/device/device_calls.h"

namespace lectern::engine {

class CudaDevice final : public Device {
 public:
  // As OpenCudaDevice.
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open();
  ~CudaDevice() override;

  std::string Name() const override { return name_; }
  std::string Provenance() const override;
  int64_t FreeBytes() const override;
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  void Free(void* memory) override;
  void* AllocatePinned(int64_t bytes) override;
  void FreePinned(void* memory) override;
  absl::Status ToDevice(void* to, const void* from, int64_t bytes) override;
  absl::Status ToHost(void* to, const void* from, int64_t bytes) override;
  absl::Status ToHostMeanwhile(void* to, const void* from, int64_t bytes) override;
  absl::Status WithinDevice(void* to, const void* from, int64_t bytes) override;
  absl::Status Clear(void* memory, int64_t bytes) override;
  absl::Status Mark(int mark) override;
  absl::Status WaitMark(int mark) override;
  absl::Status Synchronize() override;
  absl::Status MultiplyTiles(const Product& product) override;
  absl::Status MultiplyRows(const Product& product) override;
  absl::Status Embed(const kernels::EmbedCudaParams& params) override;
  absl::Status RmsNorm(const kernels::RmsNormCudaParams& params) override;
  absl::Status HeadNormRope(const kernels::HeadNormRopeCudaParams& params) override;
  absl::Status SwiGlu(const kernels::SwiGluCudaParams& params) override;
  absl::Status PrefillIndex(const kernels::PrefillIndexParams& params) override;
  absl::Status PrefillAttention(const kernels::PrefillAttentionParams& params) override;
  absl::Status DecodeScore(const kernels::DecodeScoreParams& params) override;
  absl::Status DecodeAttention(const kernels::DecodeAttentionParams& params) override;
  absl::Status IndexMass(const kernels::IndexMassCudaParams& params) override;
  absl::Status WidenSelection(const kernels::WidenSelectionCudaParams& params) override;
  absl::Status CopyKvPages(const kernels::KvPagesCudaParams& params) override;
  absl::Status CopyIndexPages(const kernels::IndexPagesCudaParams& params) override;
  absl::StatusOr<bool> Replayable(const std::function<absl::Status()>& enqueue) override;

 private:
  CudaDevice() = default;
  // What a launch or a call of the runtime returned, as ours.
  static absl::Status Result(int code, const char* what);
  // Within Replayable: whether the call is held back, and to be made later.
  template <typename Call>
  bool Hold(const Call& call) {
    if (holding_) held_.emplace_back(call);
    return holding_;
  }
  // One by one; what comes behind them on the first stream comes behind all of them.
  absl::Status MakeHeld();

  std::string name_;
  int processors_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaStream_t back_stream_ = nullptr;
  cudaEvent_t computed_ = nullptr;  // what the second stream waits for
  cudaEvent_t copied_ = nullptr;    // what the first stream waits for
  bool forked_ = false;             // the held calls have put work on the second stream
  cudaEvent_t marks_[kMarks] = {};
  std::unique_ptr<LtMatmul> matmul_;
  void* index_workspace_ = nullptr;
  int64_t index_workspace_bytes_ = 0;
  bool holding_ = false;
  std::vector<DeviceCall> held_;
  StepGraphs graphs_;
};

}  // namespace lectern::engine
