#pragma once

// Inputs and comparisons for the kernels' tests: seeded, so that every run sees the same numbers.

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

namespace lectern::kernels::testing {

// Memory as the kernels want it: 64-byte aligned.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <typename U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(kTileAlignment)));
  }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(kTileAlignment)); }
  friend bool operator==(CacheLineAllocator, CacheLineAllocator) { return true; }
};

using Bf16s = std::vector<Bf16, CacheLineAllocator<Bf16>>;
using Floats = std::vector<float, CacheLineAllocator<float>>;

inline Floats NormalFloats(int64_t n, uint64_t seed, float scale = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Floats out(static_cast<size_t>(n));
  for (float& x : out) x = normal(random);
  return out;
}

inline Bf16s NormalBf16s(int64_t n, uint64_t seed, float scale = 1) {
  const Floats x = NormalFloats(n, seed, scale);
  Bf16s out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = ToBf16(x[i]);
  return out;
}

// Small whole numbers: sums of their products are exact in fp32, so that every kernel agrees bit
// for bit and ties are real.
inline Bf16s WholeBf16s(int64_t n, uint64_t seed, int largest) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int> whole(-largest, largest);
  Bf16s out(static_cast<size_t>(n));
  for (Bf16& x : out) x = ToBf16(static_cast<float>(whole(random)));
  return out;
}

// Quiet NaNs with odd payloads: what uninitialised memory may hold at its worst.
inline Bf16s Poison(int64_t n) {
  Bf16s out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = Bf16{static_cast<uint16_t>(i % 3 == 0 ? 0xffff : i % 3 == 1 ? 0x7f80 : 0x7fc1)};
  }
  return out;
}

// For the life of the object OpenMP uses this many threads.
class Threads {
 public:
  explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before_); }

 private:
  int before_;
};

template <typename Vector>
bool SameBits(const Vector& a, const Vector& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0);
}

// Distance in representable bf16 numbers; 0 when equal (both NaN counts as equal).
inline int Bf16Distance(Bf16 a, Bf16 b) {
  if (std::isnan(ToFloat(a)) && std::isnan(ToFloat(b))) return 0;
  const auto order = [](Bf16 x) {
    return (x.bits & 0x8000) != 0 ? 0x8000 - int{x.bits} : int{x.bits};
  };
  return std::abs(order(a) - order(b));
}

}  // namespace lectern::kernels::testing
