#include "tests/engine/device/host_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "kernels/block_tile/block_tile.h"
#include "kernels/embedding/embedding.h"
#include "kernels/head_norm_rope/head_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/swiglu/swiglu.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

constexpr int kWild = 0xFF;  // a NaN in bf16 and fp32, -1 as a number
constexpr size_t kAlignment = 256;

void* AllocateWild(int64_t bytes) {
  const size_t size = (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, size);
  LECTERN_CHECK(memory != nullptr);
  std::memset(memory, kWild, size);
  return memory;
}

}  // namespace

HostDevice::~HostDevice() {
  Synchronize().IgnoreError();
  LECTERN_CHECK(allocations_.empty());
}

absl::StatusOr<void*> HostDevice::Allocate(int64_t bytes) {
  LECTERN_CHECK(!holding_);
  if ((no_memory_in_ > 0 && --no_memory_in_ == 0) || bytes > FreeBytes()) {
    return Error(absl::StatusCode::kResourceExhausted, "DEVICE_MEMORY_FULL", "no memory is left");
  }
  void* memory = AllocateWild(std::max<int64_t>(bytes, 1));
  allocations_[static_cast<const std::byte*>(memory)] = bytes;
  allocated_ += bytes;
  return memory;
}

void HostDevice::Free(void* memory) {
  LECTERN_CHECK(!holding_);
  history_.Clear();
  RunUntil(done_ + static_cast<int64_t>(queue_.size()));
  for (const auto& work : back_queue_) work();
  back_queue_.clear();
  const auto it = allocations_.find(static_cast<const std::byte*>(memory));
  LECTERN_CHECK(it != allocations_.end());
  allocated_ -= it->second;
  allocations_.erase(it);
  std::free(memory);
}

void* HostDevice::AllocatePinned(int64_t bytes) { return AllocateWild(bytes); }
void HostDevice::FreePinned(void* memory) { std::free(memory); }

void HostDevice::CheckInside(const void* memory, int64_t bytes) const {
  const auto* at = static_cast<const std::byte*>(memory);
  auto it = allocations_.upper_bound(at);
  LECTERN_CHECK(it != allocations_.begin());
  --it;
  LECTERN_CHECK(at + bytes <= it->first + it->second);
}

absl::Status HostDevice::Enqueue(std::function<void()> work) {
  LECTERN_CHECK(!holding_);
  if (failed_) return Error(absl::StatusCode::kInternal, "DEVICE_FAILED", "the device failed");
  queue_.push_back(std::move(work));
  return absl::OkStatus();
}

void HostDevice::RunUntil(int64_t place) {
  const int64_t count = place - done_;
  for (int64_t i = 0; i < count; ++i) queue_[static_cast<size_t>(i)]();
  if (count <= 0) return;
  queue_.erase(queue_.begin(), queue_.begin() + count);
  done_ = place;
}

absl::Status HostDevice::ToDevice(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kToDevice, to, from, bytes})) return absl::OkStatus();
  CheckInside(to, bytes);
  to_device_bytes_ += bytes;
  return Enqueue([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}

absl::Status HostDevice::ToHost(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kToHost, to, from, bytes})) return absl::OkStatus();
  CheckInside(from, bytes);
  return Enqueue([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}

absl::Status HostDevice::ToHostMeanwhile(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kToHostMeanwhile, to, from, bytes})) return absl::OkStatus();
  CheckInside(from, bytes);
  back_queue_.push_back([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  return absl::OkStatus();
}

absl::Status HostDevice::WithinDevice(void* to, const void* from, int64_t bytes) {
  if (Hold(CopyCall{CopyWay::kWithinDevice, to, from, bytes})) return absl::OkStatus();
  CheckInside(from, bytes);
  CheckInside(to, bytes);
  return Enqueue([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}

absl::Status HostDevice::Clear(void* memory, int64_t bytes) {
  if (Hold(ClearCall{memory, bytes})) return absl::OkStatus();
  CheckInside(memory, bytes);
  return Enqueue([=] { std::memset(memory, 0, static_cast<size_t>(bytes)); });
}

absl::Status HostDevice::Mark(int mark) {
  LECTERN_CHECK(!holding_);
  marks_[mark] = done_ + static_cast<int64_t>(queue_.size());
  return absl::OkStatus();
}

absl::Status HostDevice::WaitMark(int mark) {
  LECTERN_CHECK(!holding_);
  RunUntil(std::max(done_, marks_[mark]));
  return absl::OkStatus();
}

absl::Status HostDevice::Synchronize() {
  LECTERN_CHECK(!holding_);
  ++synchronizations_;
  if (fail_in_ > 0 && --fail_in_ == 0) failed_ = true;
  RunUntil(done_ + static_cast<int64_t>(queue_.size()));
  for (const auto& work : back_queue_) work();
  back_queue_.clear();
  if (failed_) return Error(absl::StatusCode::kInternal, "DEVICE_FAILED", "the device failed");
  return absl::OkStatus();
}

const kernels::PackedMatrix& HostDevice::Packed(const Product& product) {
  std::unique_ptr<kernels::PackedMatrix>& packed = packed_[{product.w, product.n, product.k}];
  if (packed == nullptr) {
    packed = std::make_unique<kernels::PackedMatrix>(product.w, product.n, product.k);
  }
  return *packed;
}

absl::Status HostDevice::MultiplyTiles(const Product& product) {
  LECTERN_CHECK(product.rows % kernels::kMatmulTileRows == 0);
  CheckInside(product.x, product.rows * product.k * 2);
  CheckInside(product.y, product.rows * product.n * 4);
  return Enqueue([=, this] {
    kernels::MatmulTiles(
        Packed(product),
        {.x = product.x,
         .y = product.y,
         .y_stride = product.n,
         .tiles = product.rows / kernels::kMatmulTileRows,
         .store = product.add ? kernels::MatmulStore::kAdd : kernels::MatmulStore::kOverwrite});
  });
}

absl::Status HostDevice::MultiplyRows(const Product& product) {
  if (Hold(RowsCall{product})) return absl::OkStatus();
  LECTERN_CHECK(product.rows <= kernels::kMatVecMaxRows);
  CheckInside(product.x, product.rows * product.k * 2);
  CheckInside(product.y, product.rows * product.n * 4);
  return Enqueue([=, this] {
    kernels::MatVec(Packed(product), {.x = product.x,
                                      .x_stride = product.k,
                                      .y = product.y,
                                      .y_stride = product.n,
                                      .rows = product.rows,
                                      .store = product.add ? kernels::MatmulStore::kAdd
                                                           : kernels::MatmulStore::kOverwrite});
  });
}

absl::Status HostDevice::Embed(const kernels::EmbedCudaParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.x, p.rows * p.width * 4);
  return Enqueue([=] {
    for (int64_t row = 0; row < p.rows; ++row) {
      float* x = p.x + row * p.width;
      if (p.ids[row] < 0) {
        std::fill_n(x, p.width, 0.0f);
        continue;
      }
      kernels::Embedding({.table = p.table,
                          .ids = p.ids + row,
                          .x = x,
                          .x_stride = p.width,
                          .rows = 1,
                          .hidden = p.width,
                          .vocabulary = p.vocabulary});
    }
  });
}

absl::Status HostDevice::RmsNorm(const kernels::RmsNormCudaParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.y, p.rows * p.y_stride * 2);
  return Enqueue([=] {
    for (int64_t row = 0; row < p.rows; ++row) {
      kernels::RmsNorm({.x = p.x + (p.x_rows != nullptr ? p.x_rows[row] : row) * p.x_stride,
                        .x_stride = p.x_stride,
                        .w = p.w,
                        .y = p.y + row * p.y_stride,
                        .y_stride = p.y_stride,
                        .rows = 1,
                        .hidden = p.hidden,
                        .eps = p.eps,
                        .gain = p.gain});
    }
  });
}

absl::Status HostDevice::HeadNormRope(const kernels::HeadNormRopeCudaParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.q, p.rows * p.heads * p.dim * 2);
  CheckInside(p.k, p.rows * p.kv_heads * p.dim * 2);
  CheckInside(p.v, p.rows * p.kv_heads * p.dim * 2);
  CheckInside(p.index_q, p.rows * p.index_heads * p.index_dim * 2);
  CheckInside(p.index_k, p.rows * p.index_dim * 2);
  return Enqueue([=, this] {
    int64_t column = 0;
    const auto rotate = [&](const float* gain, int heads, int dim, Bf16* y) {
      kernels::HeadNormRope({.x = p.x + column,
                             .x_stride = p.x_stride,
                             .w = gain,
                             .cos = p.cos,
                             .sin = p.sin,
                             .y = y,
                             .y_f32 = nullptr,
                             .y_stride = int64_t{heads} * dim,
                             .rows = p.rows,
                             .heads = heads,
                             .dim = dim,
                             .rotary_dim = p.rotary_dim,
                             .eps = p.eps,
                             .gain = p.gain});
      column += int64_t{heads} * dim;
    };
    const int64_t kv_width = int64_t{p.kv_heads} * p.dim;
    rotate(p.q_gain, p.heads, p.dim, p.q);
    rotate(p.k_gain, p.kv_heads, p.dim, p.k);
    kernels::ConvertRowsToBf16({.x = p.x + column,
                                .x_stride = p.x_stride,
                                .y = p.v,
                                .y_stride = kv_width,
                                .rows = p.rows,
                                .cols = kv_width});
    column += kv_width;
    rotate(p.index_q_gain, p.index_heads, p.index_dim, p.index_q);
    rotate(p.index_k_gain, 1, p.index_dim, p.index_k);
    LECTERN_CHECK(column <= p.x_stride);
    for (int64_t row = 0; row < p.rows; ++row) {
      const int64_t slot = p.slots[row];
      LECTERN_CHECK(slot >= 0 && slot < kernels::kBlockTokens);
      LECTERN_CHECK((p.kv_pages[row] < 0) == (p.index_pages[row] < 0));
      if (p.kv_pages[row] < 0) continue;
      for (int head = 0; head < p.kv_heads; ++head) {
        const int64_t at =
            ((int64_t{p.kv_pages[row]} * p.kv_heads + head) * kernels::kBlockTokens + slot) * p.dim;
        CheckInside(p.k_cache + at, p.dim * 2);
        CheckInside(p.v_cache + at, p.dim * 2);
        std::copy_n(p.k + row * kv_width + int64_t{head} * p.dim, p.dim, p.k_cache + at);
        std::copy_n(p.v + row * kv_width + int64_t{head} * p.dim, p.dim, p.v_cache + at);
      }
      const int64_t at = (int64_t{p.index_pages[row]} * kernels::kBlockTokens + slot) * p.index_dim;
      CheckInside(p.index_cache + at, p.index_dim * 2);
      std::copy_n(p.index_k + row * p.index_dim, p.index_dim, p.index_cache + at);
    }
  });
}

absl::Status HostDevice::SwiGlu(const kernels::SwiGluCudaParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.y, p.rows * p.cols * 2);
  return Enqueue([=] {
    kernels::SwiGlu({.gate = p.gate_up,
                     .up = p.gate_up + p.cols,
                     .stride = 2 * p.cols,
                     .y = p.y,
                     .y_stride = p.cols,
                     .rows = p.rows,
                     .cols = p.cols});
  });
}

absl::Status HostDevice::CopyKvPages(const kernels::KvPagesCudaParams& p) {
  return Enqueue([=, this] {
    LECTERN_CHECK(p.direction == kernels::CopyPages::kTilesToPages);
    const kernels::TileRun whole{.first = 0, .count = kernels::kBlockTokens, .dim = p.dim};
    const int64_t tile = kernels::TileElements(p.dim);
    for (int32_t i = 0; i < p.blocks; ++i) {
      const Bf16* tiles = p.tiles + (p.places != nullptr ? p.places[i] : i) * p.block_stride;
      for (int head = 0; head < p.kv_heads; ++head) {
        const int64_t at = (int64_t{p.pages[i]} * p.kv_heads + head) * tile;
        CheckInside(p.k + at, tile * 2);
        CheckInside(p.v + at, tile * 2);
        kernels::UnpackKeys(whole, tiles + 2 * head * tile, p.k + at, p.dim);
        kernels::UnpackValues(whole, tiles + (2 * head + 1) * tile, p.v + at, p.dim);
      }
    }
  });
}

absl::Status HostDevice::CopyIndexPages(const kernels::IndexPagesCudaParams& p) {
  return Enqueue([=, this] {
    LECTERN_CHECK(p.direction == kernels::CopyPages::kTilesToPages);
    const kernels::TileRun whole{.first = 0, .count = kernels::kBlockTokens, .dim = p.dim};
    const int64_t tile = kernels::TileElements(p.dim);
    for (int32_t i = 0; i < p.blocks; ++i) {
      const Bf16* tiles = p.tiles + (p.places != nullptr ? p.places[i] : i) * p.block_stride;
      for (int layer = 0; layer < p.layers; ++layer) {
        Bf16* page = p.keys + layer * p.layer_stride + p.pages[i] * tile;
        CheckInside(page, tile * 2);
        kernels::UnpackKeys(whole, tiles + layer * tile, page, p.dim);
      }
    }
  });
}

absl::StatusOr<bool> HostDevice::Replayable(const std::function<absl::Status()>& enqueue) {
  LECTERN_CHECK(!holding_);
  held_.clear();
  holding_ = true;
  const absl::Status enqueued = enqueue();
  holding_ = false;
  LECTERN_RETURN_IF_ERROR(enqueued);
  const auto& sequence = history_.Find(held_);
  LECTERN_RETURN_IF_ERROR(MakeCalls(this, sequence.calls));
  return sequence.seen > 1;
}

}  // namespace lectern::engine
