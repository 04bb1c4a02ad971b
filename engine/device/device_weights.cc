#include "engine/device/device_weights.h"

#include <initializer_list>

#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

// `parts` have the same number of columns.
absl::Status Upload(Device* device, std::initializer_list<const Bf16Matrix*> parts,
                    DeviceMatrix* matrix, int64_t* bytes) {
  for (const Bf16Matrix* part : parts) {
    matrix->n += part->rows;
    matrix->k = part->cols;
  }
  LECTERN_RETURN_IF_ERROR(matrix->data.Grow(device, matrix->n * matrix->k));
  int64_t row = 0;
  for (const Bf16Matrix* part : parts) {
    const int64_t size = part->rows * part->cols * static_cast<int64_t>(sizeof(kernels::Bf16));
    LECTERN_RETURN_IF_ERROR(
        device->ToDevice(matrix->data.get() + row * matrix->k, part->data, size));
    row += part->rows;
    *bytes += size;
  }
  return absl::OkStatus();
}

absl::Status Upload(Device* device, Gain gain, DeviceArray<float>* array, int64_t* bytes) {
  if (gain.empty()) return absl::OkStatus();
  LECTERN_RETURN_IF_ERROR(array->Grow(device, static_cast<int64_t>(gain.size())));
  *bytes += static_cast<int64_t>(gain.size_bytes());
  return device->ToDevice(array->get(), gain.data(), static_cast<int64_t>(gain.size_bytes()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceWeights>> UploadWeights(Device* device,
                                                             const Checkpoint& checkpoint,
                                                             const std::vector<bool>& sparse) {
  auto weights = std::make_unique<DeviceWeights>();
  int64_t* bytes = &weights->bytes;
  LECTERN_RETURN_IF_ERROR(Upload(device, {&checkpoint.embedding()}, &weights->embedding, bytes));
  if (!checkpoint.config().tied_embeddings) {
    LECTERN_RETURN_IF_ERROR(Upload(device, {&checkpoint.lm_head()}, &weights->own_lm_head, bytes));
  }
  LECTERN_RETURN_IF_ERROR(Upload(device, checkpoint.final_norm(), &weights->final_norm, bytes));
  weights->layers.resize(checkpoint.layers().size());
  for (size_t i = 0; i < weights->layers.size(); ++i) {
    const LayerWeights& from = checkpoint.layers()[i];
    DeviceLayer& to = weights->layers[i];
    if (sparse[i]) {
      LECTERN_RETURN_IF_ERROR(Upload(
          device, {&from.q, &from.k, &from.v, &from.index_q, &from.index_k}, &to.qkv, bytes));
    } else {
      LECTERN_RETURN_IF_ERROR(Upload(device, {&from.q, &from.k, &from.v}, &to.qkv, bytes));
    }
    LECTERN_RETURN_IF_ERROR(Upload(device, {&from.o}, &to.o, bytes));
    LECTERN_RETURN_IF_ERROR(Upload(device, {&from.gate, &from.up}, &to.gate_up, bytes));
    LECTERN_RETURN_IF_ERROR(Upload(device, {&from.down}, &to.down, bytes));
    LECTERN_RETURN_IF_ERROR(Upload(device, from.input_norm, &to.input_norm, bytes));
    LECTERN_RETURN_IF_ERROR(
        Upload(device, from.post_attention_norm, &to.post_attention_norm, bytes));
    LECTERN_RETURN_IF_ERROR(Upload(device, from.q_norm, &to.q_norm, bytes));
    LECTERN_RETURN_IF_ERROR(Upload(device, from.k_norm, &to.k_norm, bytes));
    if (!sparse[i]) continue;
    LECTERN_RETURN_IF_ERROR(Upload(device, from.index_q_norm, &to.index_q_norm, bytes));
    LECTERN_RETURN_IF_ERROR(Upload(device, from.index_k_norm, &to.index_k_norm, bytes));
  }
  // The checkpoint may be unmapped once this returns.
  LECTERN_RETURN_IF_ERROR(device->Synchronize());
  return weights;
}

}  // namespace lectern::engine
