// Calls of a device as values: what a device may hold back (Device::Replayable), made later, and
// compared with what came before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "engine/device/device.h"

namespace lectern::engine {

// The copies of Device, by the names of its methods.
enum class CopyWay { kToDevice, kToHost, kToHostMeanwhile, kWithinDevice };

struct CopyCall {
  CopyWay way;
  void* to;
  const void* from;
  int64_t bytes;

  bool operator==(const CopyCall&) const = default;
};

struct ClearCall {
  void* memory;
  int64_t bytes;

  bool operator==(const ClearCall&) const = default;
};

// Device::MultiplyRows.
struct RowsCall {
  Device::Product product;

  bool operator==(const RowsCall&) const = default;
};

using DeviceCall = std::variant<CopyCall, ClearCall, RowsCall, kernels::EmbedCudaParams,
                                kernels::RmsNormCudaParams, kernels::HeadNormRopeCudaParams,
                                kernels::SwiGluCudaParams, kernels::DecodeScoreParams,
                                kernels::DecodeAttentionParams, kernels::IndexMassCudaParams,
                                kernels::WidenSelectionCudaParams>;

// The same calls, in their order; ends at the first error.
absl::Status MakeCalls(Device* device, std::span<const DeviceCall> calls);

// The sequences of calls that came lately, and with each what replays it, if anything does.
template <typename Replay>
class CallHistory {
 public:
  struct Sequence {
    std::vector<DeviceCall> calls;
    int64_t seen = 0;  // times
    std::unique_ptr<Replay> replay;
  };

  // `most` are remembered, those used longest ago forgotten first.
  explicit CallHistory(size_t most) : most_(most) {}

  // The sequence of these very calls, seen once more. Good until the next call of the history.
  Sequence& Find(std::span<const DeviceCall> calls) {
    auto known = sequences_.begin();
    while (known != sequences_.end() &&
           !std::equal(calls.begin(), calls.end(), known->calls.begin(), known->calls.end())) {
      ++known;
    }
    if (known != sequences_.end()) {
      sequences_.splice(sequences_.begin(), sequences_, known);
    } else {
      if (sequences_.size() == most_) sequences_.pop_back();
      sequences_.push_front({.calls = {calls.begin(), calls.end()}});
    }
    ++sequences_.front().seen;
    return sequences_.front();
  }
  void Clear() { sequences_.clear(); }

 private:
  const size_t most_;
  std::list<Sequence> sequences_;  // used last comes first
};

}  // namespace lectern::engine
