// The forward pass on the CPU: oneDNN for the products, our kernels for the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/decoder.h"
#include "kernels/matmul/matmul.h"

namespace lectern::engine {

class CpuDecoder final : public Decoder {
 public:
  // Packs the weights. `checkpoint` must outlive the decoder.
  //   UNIMPLEMENTED MODEL_UNSUPPORTED: head dimensions, GQA ratios or budgets beyond the kernels'
  static absl::StatusOr<std::unique_ptr<CpuDecoder>> Create(const Checkpoint* checkpoint,
                                                            const DecoderOptions& options);
  ~CpuDecoder() override;

  std::vector<SegmentResult> Step(std::span<const StepSegment> segments) override;
  int64_t packed_bytes() const override;
  std::string Provenance() const override { return kernels::KernelProvenance(); }

 private:
  struct Layer;
  struct Batch;
  CpuDecoder(const Checkpoint* checkpoint, const DecoderOptions& options);

  void EmbedRows(std::span<const StepSegment> segments, std::vector<SegmentResult>* results);
  void RunLayer(int layer);
  void SplitHeads(const Layer& layer);
  absl::Status Attend(int layer, size_t part);
  void ComputeLogits();
  void Norm(std::span<const float> gain, int64_t first_row, int64_t rows, kernels::Bf16* y) const;
  void Project(const kernels::PackedMatrix& matrix, const kernels::Bf16* x, float* y,
               bool add) const;

  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<kernels::PackedMatrix> lm_head_;
  std::unique_ptr<Batch> batch_;  // of the step at hand; its memory is kept from step to step
};

}  // namespace lectern::engine
