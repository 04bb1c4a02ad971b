#include "engine/device/device_memory.h"

#include <algorithm>

namespace lectern::engine {
namespace {

constexpr int64_t kPieceAlignment = 256;
constexpr int64_t kChunkBytes = int64_t{4} << 20;

}  // namespace

PinnedArena::~PinnedArena() {
  for (const Chunk& chunk : chunks_) device_->FreePinned(chunk.data);
}

void PinnedArena::Reset() {
  current_ = 0;
  used_ = 0;
}

void* PinnedArena::TakeBytes(int64_t bytes) {
  bytes = (std::max<int64_t>(bytes, 1) + kPieceAlignment - 1) / kPieceAlignment * kPieceAlignment;
  while (current_ < chunks_.size() && used_ + bytes > chunks_[current_].bytes) {
    ++current_;
    used_ = 0;
  }
  if (current_ == chunks_.size()) {
    const int64_t size = std::max(bytes, kChunkBytes);
    chunks_.push_back({static_cast<std::byte*>(device_->AllocatePinned(size)), size});
    used_ = 0;
  }
  void* piece = chunks_[current_].data + used_;
  used_ += bytes;
  return piece;
}

}  // namespace lectern::engine
