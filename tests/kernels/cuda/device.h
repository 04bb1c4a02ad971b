#pragma once

// Device memory and random data for tests of CUDA kernels. Every failed CUDA call ends the process.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels::testing {

inline void Check(int code, const char* what) {  // a cudaError_t
  const auto error = static_cast<cudaError_t>(code);
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

inline bool HaveGpu() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// False where the driver was told to run the PTX that is meant for other GPUs.
inline bool HaveHopper() {
  const char* ptx = std::getenv("CUDA_FORCE_PTX_JIT");
  if (!HaveGpu() || (ptx != nullptr && ptx[0] == '1')) return false;
  cudaDeviceProp properties;
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess && properties.major == 9;
}

template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t size) : size_(size) {
    Check(cudaMalloc(&data_, size * sizeof(T) + 16), "cudaMalloc");
  }
  DeviceArray(const std::vector<T>& from) : DeviceArray(from.size()) {  // NOLINT: a copy
    Set(from);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* get() const { return data_; }
  size_t size() const { return size_; }
  void Set(const std::vector<T>& from) {
    Check(cudaMemcpy(data_, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
          "copy in");
  }
  void Fill(int byte) { Check(cudaMemset(data_, byte, size_ * sizeof(T)), "fill"); }
  std::vector<T> Host() const {
    std::vector<T> out(size_);
    Check(cudaMemcpy(out.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// The first place where two arrays differ in bits, or -1.
template <typename T>
int64_t FirstDifference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return static_cast<int64_t>(std::min(a.size(), b.size()));
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0) return static_cast<int64_t>(i);
  return -1;
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && FirstDifference(a, b) < 0;
}

// About normal with variance 1; the same on every machine.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint32_t Bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>((state_ ^ state_ >> 29) >> 32);
  }
  int Below(int limit) { return static_cast<int>(uint64_t{Bits()} * limit >> 32); }
  float Normal() {  // a sum of four uniforms
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(Bits()) * 0x1p-32f - 0.5f;
    return sum * 1.7320508f;
  }
  std::vector<Bf16> Normals(size_t count, float scale = 1.0f) {
    std::vector<Bf16> out(count);
    for (Bf16& x : out) x = ToBf16(Normal() * scale);
    return out;
  }

 private:
  uint64_t state_;
};

}  // namespace lectern::kernels::testing
