// A GPU as the forward pass knows devices: every call is a launch, a copy, or cuBLASLt.
//
// One stream computes; a second brings results to the host meanwhile.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "engine/cuda/lt_matmul.h"
#include "engine/device/device.h"

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

 private:
  CudaDevice() = default;
  // What a launch or a call of the runtime returned, as ours.
  static absl::Status Result(int code, const char* what);

  std::string name_;
  int processors_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaStream_t back_stream_ = nullptr;
  cudaEvent_t computed_ = nullptr;  // what the second stream waits for
  cudaEvent_t marks_[kMarks] = {};
  std::unique_ptr<LtMatmul> matmul_;
  void* index_workspace_ = nullptr;
  int64_t index_workspace_bytes_ = 0;
};

}  // namespace lectern::engine
