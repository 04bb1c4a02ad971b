// A device that is the host: the same layouts, the same order of things, the CPU's kernels. What a
// GPU computes to rounding this one computes as the CPU's forward pass does, bit for bit, so that
// all around the launches can be tested exactly.
//
// What is Replayable it holds back to its end, and makes as it was remembered when it came before.
//
// It is as hostile as a device may be: nothing happens before somebody waits, fresh memory holds
// NaNs and wild page numbers, copies to the host come last of all, and what the kernels require of
// their parameters is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "engine/device/device.h"
#include "engine/device/device_calls.h"
#include "kernels/matmul/matmul.h"

namespace lectern::engine {

class HostDevice final : public Device {
 public:
  explicit HostDevice(int64_t bytes) : bytes_(bytes) {}
  ~HostDevice() override;

  // From the so many-th Synchronize on (1: the next) the device has failed.
  void FailAtSynchronize(int n) { fail_in_ = n; }
  // The so many-th allocation from now on finds no memory.
  void FailAtAllocate(int n) { no_memory_in_ = n; }
  int64_t to_device_bytes() const { return to_device_bytes_; }
  int64_t synchronizations() const { return synchronizations_; }
  // The calls of the last Replayable.
  const std::vector<DeviceCall>& held() const { return held_; }

  std::string Name() const override { return "the host as a device"; }
  std::string Provenance() const override { return "host-device/" + kernels::KernelProvenance(); }
  int64_t FreeBytes() const override { return bytes_ - allocated_; }
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
  template <typename Call>
  bool Hold(const Call& call) {
    if (holding_) held_.emplace_back(call);
    return holding_;
  }
  absl::Status Enqueue(std::function<void()> work);
  void RunUntil(int64_t place);
  const kernels::PackedMatrix& Packed(const Product& product);
  // That device memory, and no other, is written or read here.
  void CheckInside(const void* memory, int64_t bytes) const;

  const int64_t bytes_;
  int64_t allocated_ = 0;
  int64_t to_device_bytes_ = 0;
  int64_t synchronizations_ = 0;
  int fail_in_ = 0, no_memory_in_ = 0;
  bool failed_ = false;
  std::map<const std::byte*, int64_t> allocations_;
  std::vector<std::function<void()>> queue_;  // from place done_ on
  int64_t done_ = 0;                          // work that was done, ever
  int64_t marks_[kMarks] = {};
  std::vector<std::function<void()>> back_queue_;
  bool holding_ = false;
  std::vector<DeviceCall> held_;
  struct Nothing {};
  CallHistory<Nothing> history_{8};
  std::map<std::tuple<const void*, int64_t, int64_t>, std::unique_ptr<kernels::PackedMatrix>>
      packed_;
};

}  // namespace lectern::engine
