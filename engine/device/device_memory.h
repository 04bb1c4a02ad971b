// Memory of a device as objects that go with their owner.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/device/device.h"

namespace lectern::engine {

// An array in device memory. Grows, never shrinks; contents are lost when it grows.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceArray() {
    if (data_ != nullptr) device_->Free(data_);
  }

  // REQUIRES: the same device every time, which outlives the array.
  absl::Status Grow(Device* device, int64_t elements) {
    if (elements <= size_) return absl::OkStatus();
    device_ = device;
    if (data_ != nullptr) device->Free(std::exchange(data_, nullptr));
    size_ = 0;
    absl::StatusOr<void*> data = device->Allocate(elements * static_cast<int64_t>(sizeof(T)));
    if (!data.ok()) return data.status();
    data_ = static_cast<T*>(*data);
    size_ = elements;
    return absl::OkStatus();
  }
  T* get() const { return data_; }
  int64_t size() const { return size_; }

 private:
  Device* device_ = nullptr;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

// Host memory that the device copies from and to by itself. Pieces live until Reset.
class PinnedArena {
 public:
  explicit PinnedArena(Device* device) : device_(device) {}
  PinnedArena(const PinnedArena&) = delete;
  PinnedArena& operator=(const PinnedArena&) = delete;
  ~PinnedArena();

  // 256-byte aligned.
  template <typename T>
  T* Take(int64_t elements) {
    return static_cast<T*>(TakeBytes(elements * static_cast<int64_t>(sizeof(T))));
  }
  // Forgets all pieces. REQUIRES: the device is done with them.
  void Reset();

 private:
  struct Chunk {
    std::byte* data;
    int64_t bytes;
  };
  void* TakeBytes(int64_t bytes);

  Device* const device_;
  std::vector<Chunk> chunks_;
  size_t current_ = 0;
  int64_t used_ = 0;  // of the current chunk
};

}  // namespace lectern::engine
