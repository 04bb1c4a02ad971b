// A checkpoint's weights in device memory: matrices bf16 as they are, q, k, v and the index
// projections one below the other, gate and up likewise; gains fp32.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device/device_memory.h"
#include "engine/model/checkpoint.h"
#include "kernels/bf16/bf16.h"

namespace lectern::engine {

struct DeviceMatrix {
  DeviceArray<kernels::Bf16> data;
  int64_t n = 0;  // rows: outputs
  int64_t k = 0;
};

struct DeviceLayer {
  DeviceMatrix qkv, o, gate_up, down;
  DeviceArray<float> input_norm, post_attention_norm;
  DeviceArray<float> q_norm, k_norm, index_q_norm, index_k_norm;  // empty: none
};

struct DeviceWeights {
  DeviceMatrix embedding;
  DeviceMatrix own_lm_head;  // empty where the embedding is the head
  DeviceArray<float> final_norm;
  std::vector<DeviceLayer> layers;
  int64_t bytes = 0;

  const DeviceMatrix& lm_head() const { return own_lm_head.n > 0 ? own_lm_head : embedding; }
};

// sparse: [layers], whether a layer's index projections are wanted. Errors: the device's.
absl::StatusOr<std::unique_ptr<DeviceWeights>> UploadWeights(Device* device,
                                                             const Checkpoint& checkpoint,
                                                             const std::vector<bool>& sparse);

}  // namespace lectern::engine
