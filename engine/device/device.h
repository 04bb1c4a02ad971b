// What the forward pass needs of an accelerator, and all it knows of it: memory, copies, and one
// call per operation, with the parameters of the kernels. engine/cuda implements it with launches
// on a GPU; the tests implement it on the host over the same layouts, so that everything but the
// launches is proven on any machine.
//
// Calls enqueue and return; what they do happens in their order, by the time of Synchronize at the
// latest. Host memory that a copy reads or writes must stay as it is until then (or until
// WaitMark). Parameters hold pointers to device memory, which the host never follows. Errors are
// RESOURCE_EXHAUSTED DEVICE_MEMORY_FULL, after which the device goes on, and INTERNAL
// DEVICE_FAILED, after which it does not. One thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/bf16/bf16.h"
#include "kernels/cache_pages/cache_pages_cuda.h"
#include "kernels/decode_attention/decode_attention.h"
#include "kernels/decode_score/decode_score.h"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/head_norm_rope/head_norm_rope_cuda.h"
#include "kernels/index_mass/index_mass_cuda.h"
#include "kernels/prefill_attention/prefill_attention.h"
#include "kernels/prefill_index/prefill_index.h"
#include "kernels/rms_norm/rms_norm_cuda.h"
#include "kernels/swiglu/swiglu_cuda.h"

namespace lectern::engine {

class Device {
 public:
  // y = x W^T (+ y): x [rows][k] and W [n][k] bf16, y [rows][n] fp32, sums in fp32.
  struct Product {
    const kernels::Bf16* x = nullptr;
    const kernels::Bf16* w = nullptr;
    float* y = nullptr;
    int64_t rows = 0;
    int64_t n = 0;
    int64_t k = 0;
    bool add = false;

    bool operator==(const Product&) const = default;
  };

  // Copies to the device that WaitMark can wait for, numbered 0 and on.
  static constexpr int kMarks = 2;

  virtual ~Device() = default;

  virtual std::string Name() const = 0;
  // Everything of the device that decides the bits of a stored block.
  virtual std::string Provenance() const = 0;
  virtual int64_t FreeBytes() const = 0;

  // Device memory, 256-byte aligned; Free waits for all that was enqueued.
  virtual absl::StatusOr<void*> Allocate(int64_t bytes) = 0;
  virtual void Free(void* memory) = 0;
  // Host memory that copies reach by themselves, 256-byte aligned. Ends the program where the
  // machine has none left.
  virtual void* AllocatePinned(int64_t bytes) = 0;
  virtual void FreePinned(void* memory) = 0;

  virtual absl::Status ToDevice(void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status ToHost(void* to, const void* from, int64_t bytes) = 0;
  // The same beside what is enqueued afterwards, which must not write `from`.
  virtual absl::Status ToHostMeanwhile(void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status WithinDevice(void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status Clear(void* memory, int64_t bytes) = 0;  // zeros
  // Marks what was enqueued until now; a mark that was never set is no reason to wait.
  virtual absl::Status Mark(int mark) = 0;
  virtual absl::Status WaitMark(int mark) = 0;
  virtual absl::Status Synchronize() = 0;

  // Tiles keep the numeric contract: rows are a multiple of 128, and a row's bits depend on that
  // row alone, whatever the number of rows. Rows (at most 64, decode) may be computed otherwise.
  virtual absl::Status MultiplyTiles(const Product& product) = 0;
  virtual absl::Status MultiplyRows(const Product& product) = 0;

  virtual absl::Status Embed(const kernels::EmbedCudaParams& params) = 0;
  virtual absl::Status RmsNorm(const kernels::RmsNormCudaParams& params) = 0;
  virtual absl::Status HeadNormRope(const kernels::HeadNormRopeCudaParams& params) = 0;
  virtual absl::Status SwiGlu(const kernels::SwiGluCudaParams& params) = 0;
  // Workspace and the number of ranges are the device's to choose.
  virtual absl::Status PrefillIndex(const kernels::PrefillIndexParams& params) = 0;
  virtual absl::Status PrefillAttention(const kernels::PrefillAttentionParams& params) = 0;
  virtual absl::Status DecodeScore(const kernels::DecodeScoreParams& params) = 0;
  virtual absl::Status DecodeAttention(const kernels::DecodeAttentionParams& params) = 0;
  virtual absl::Status IndexMass(const kernels::IndexMassCudaParams& params) = 0;
  virtual absl::Status WidenSelection(const kernels::WidenSelectionCudaParams& params) = 0;
  virtual absl::Status CopyKvPages(const kernels::KvPagesCudaParams& params) = 0;
  virtual absl::Status CopyIndexPages(const kernels::IndexPagesCudaParams& params) = 0;

  // Makes the calls that `enqueue` makes, as one piece that is likely to come again: the device may
  // hold them back until `enqueue` has returned, and a sequence of calls that came lately, equal in
  // every parameter, may be replayed at the cost of one. What parameters point to is read anew
  // every time. Returns whether it was replayed. Errors: those of the calls, now or then; where
  // `enqueue` fails its calls may not have been made.
  // REQUIRES: `enqueue` calls nothing but copies to, from and within the device, Clear,
  // MultiplyRows, Embed, RmsNorm, HeadNormRope, SwiGlu, DecodeScore, DecodeAttention, IndexMass and
  // WidenSelection.
  virtual absl::StatusOr<bool> Replayable(const std::function<absl::Status()>& enqueue) = 0;
};

}  // namespace lectern::engine
