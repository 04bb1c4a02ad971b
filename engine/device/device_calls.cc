#include "engine/device/device_calls.h"

#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

struct Maker {
  Device* device;

  absl::Status operator()(const CopyCall& c) const {
    switch (c.way) {
      case CopyWay::kToDevice:
        return device->ToDevice(c.to, c.from, c.bytes);
      case CopyWay::kToHost:
        return device->ToHost(c.to, c.from, c.bytes);
      case CopyWay::kToHostMeanwhile:
        return device->ToHostMeanwhile(c.to, c.from, c.bytes);
      case CopyWay::kWithinDevice:
        break;
    }
    return device->WithinDevice(c.to, c.from, c.bytes);
  }
  absl::Status operator()(const ClearCall& c) const { return device->Clear(c.memory, c.bytes); }
  absl::Status operator()(const RowsCall& c) const { return device->MultiplyRows(c.product); }
  absl::Status operator()(const kernels::EmbedCudaParams& p) const { return device->Embed(p); }
  absl::Status operator()(const kernels::RmsNormCudaParams& p) const { return device->RmsNorm(p); }
  absl::Status operator()(const kernels::HeadNormRopeCudaParams& p) const {
    return device->HeadNormRope(p);
  }
  absl::Status operator()(const kernels::SwiGluCudaParams& p) const { return device->SwiGlu(p); }
  absl::Status operator()(const kernels::DecodeScoreParams& p) const {
    return device->DecodeScore(p);
  }
  absl::Status operator()(const kernels::DecodeAttentionParams& p) const {
    return device->DecodeAttention(p);
  }
  absl::Status operator()(const kernels::IndexMassCudaParams& p) const {
    return device->IndexMass(p);
  }
  absl::Status operator()(const kernels::WidenSelectionCudaParams& p) const {
    return device->WidenSelection(p);
  }
};

}  // namespace

absl::Status MakeCalls(Device* device, std::span<const DeviceCall> calls) {
  for (const DeviceCall& call : calls) {
    LECTERN_RETURN_IF_ERROR(std::visit(Maker{device}, call));
  }
  return absl::OkStatus();
}

}  // namespace lectern::engine
