#pragma once

// Device memory and random data for tests of CUDA kernels. Every failed CUDA call ends the process.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels::testing {

inline void Check(int code, const char* what) {  // a cudaError_t
  const auto error = static_cast<cudaError_t>(code);
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

inline bool HaveHopper() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return false;
  cudaDeviceProp properties;
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess && properties.major == 9;
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    Check(cudaMalloc(&data_, size * sizeof(T) + 16), "cudaMalloc");
  }
  DeviceArray(const std::vector<T>& from) : DeviceArray(from.size()) {  // NOLINT: a copy
    Check(cudaMemcpy(data_, from.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), "copy in");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  void Fill(int byte) { Check(cudaMemset(data_, byte, size_ * sizeof(T)), "fill"); }
  std::vector<T> Host() const {
    std::vector<T> out(size_);
    Check(cudaMemcpy(out.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

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
