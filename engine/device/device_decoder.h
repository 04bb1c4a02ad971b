// The forward pass on a device (device.h): the products and kernels are the device's, the cache's
// pages lie in its memory (device_pages.h).
//
// A step whose contexts are there in whole enqueues everything and waits once, at its end. If it
// has decode rows alone, the device may replay it (Device::Replayable): what changes from token to
// token is in memory whose address does not, and numbers of rows and bounds are rounded up to
// coarse ones, so that steps have few forms. Otherwise every layer selects, tells the host, fetches
// the pages that are not there, and attends, to as many rows at a time as there is room for; the
// bits of a row are the same either way, for its attention depends on its own selection alone.
//
// Rows of tiles are computed with the prefill kernels, decode rows with the decode kernels, and so
// are rows that may widen their selection. An observed row of a tile is attended to once more by a
// decode kernel, for what each block weighs; what it leaves in the cache is as if nobody looked.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/device/device.h"
#include "engine/device/device_memory.h"
#include "engine/device/device_pages.h"
#include "engine/device/device_weights.h"
#include "engine/model/decoder.h"
#include "engine/model/step_rows.h"
#include "kernels/prefill_sequence/prefill_sequence.h"

namespace lectern::engine {

struct DeviceDecoderOptions {
  // Bytes of device memory that weights, cache and scratch may take; 0: most of what is free.
  int64_t memory_bytes = 0;
  // Tokens that one step computes at most, over all its segments. Bounds the scratch.
  int64_t step_tokens = 1024;
  int64_t step_contexts = 1;  // in one step, at most
  bool replay = true;         // steps of decode rows that came before in the same form
};

class DeviceDecoder final : public Decoder {
 public:
  // `checkpoint` must outlive the decoder, which must outlive every context that it stepped; these
  // are of one KvMemory.
  //   UNIMPLEMENTED DEVICE_UNSUPPORTED: a model whose shapes the kernels do not have
  //   RESOURCE_EXHAUSTED DEVICE_MEMORY_TOO_SMALL (needed_bytes, limit_bytes), and the device's
  //   errors
  static absl::StatusOr<std::unique_ptr<DeviceDecoder>> Create(std::unique_ptr<Device> device,
                                                               const Checkpoint* checkpoint,
                                                               const DecoderOptions& options,
                                                               const DeviceDecoderOptions& sizes);
  ~DeviceDecoder() override;

  std::vector<SegmentResult> Step(std::span<const StepSegment> segments) override;
  int64_t packed_bytes() const override { return weights_->bytes; }
  std::string Provenance() const override { return device_->Provenance(); }
  std::optional<DeviceUse> device_use() const override;

 private:
  using Part = StepRows::Part;

  // What the host gets to know of an observed part, [layers]; pinned memory of the step.
  struct Observed {
    kernels::Bf16* q = nullptr;  // [rows][heads * head_dim]
    int32_t* selected = nullptr;
    float* block_lse = nullptr;
    float* lse = nullptr;
    float* index_lse_visible = nullptr;
    float* index_lse_selected = nullptr;
  };
  // One part of a step, beside where its rows lie.
  struct PartState {
    const Part* part = nullptr;
    DevicePages::Mirror* mirror = nullptr;
    int32_t slots = 0;  // blocks of a selection, at most
    bool widens = false;
    int32_t observed_from = 0;  // rows: nobody looks
    std::vector<Observed> observed;
    std::vector<int32_t*> widened;  // [layers] selections of all its rows, pinned; if it widens
  };
  // Rows of one part that the decode kernels take together.
  struct Piece {
    PartState* state;
    int32_t first, rows;  // in the part
    bool observed;
    const kernels::IndexMassRequest* request;  // device
  };
  class Carver;
  // What every layer leaves for the host, in device memory and where it goes, layer after layer.
  struct Outgoing {
    const std::byte* from = nullptr;
    std::byte* to = nullptr;  // pinned
    int64_t layer_bytes = 0;
    int sent = 0;  // layers
  };
  // Small arrays of a step in device memory, from one buffer.
  struct StepInput {
    int32_t *ids, *positions, *slots, *index_pages, *kv_pages, *iota, *asking, *row_contexts;
    float *cos, *sin;
    kernels::PrefillSequence* sequences;  // of the plain tiled parts, then what covers other rows
    kernels::DecodeSpan* spans;
    kernels::IndexMassRequest* requests;  // of pieces, then of decode spans
  };

  DeviceDecoder(std::unique_ptr<Device> device, const Checkpoint* checkpoint,
                const DecoderOptions& options);
  absl::Status Open(const DeviceDecoderOptions& sizes);

  // One step (device_step.cc: until its first layer).
  absl::Status Run();
  absl::Status RunLayers();
  absl::Status GrowBuffers();
  absl::Status PlanParts();
  absl::Status MakeRoomForObserved(PartState* state);
  absl::Status MakeRoomForDecodeObserved();
  int64_t SequencesMost() const;
  int32_t SpanRows() const;
  absl::Status FillInput();
  void CarveRows(Carver* carver);
  void CarveSequences(Carver* carver);
  void CarveDecodeRows(Carver* carver);
  void CarveMass(Carver* carver);
  absl::Status RunLayer(int layer);
  absl::Status SplitHeads(int layer);
  // Layers until this one have left theirs: brings it to the host while the next ones go on, when
  // there is enough of it.
  absl::Status CopyBack(Outgoing* out, int layer);
  absl::Status ComputeLogits();
  absl::Status Norm(const DeviceArray<float>& gain, const int32_t* x_rows, int64_t rows,
                    kernels::Bf16* y);
  absl::Status Project(const DeviceMatrix& matrix, const kernels::Bf16* x, float* y, bool add);
  absl::Status WriteBack();
  void Observe();
  void CountSelected();

  // Attention of one layer (device_attention.cc).
  absl::Status Attend(int layer);
  absl::Status SelectForTiles(int layer);
  absl::Status SelectForDecode(int layer);
  absl::Status SelectWidened(int layer, const Piece& piece);
  absl::Status AttendTiles(int layer, const kernels::PrefillSequence* sequences, int32_t count,
                           int32_t max_rows, int32_t rows, int32_t max_tokens);
  absl::Status AttendDecode(int layer, int32_t first, int32_t rows);
  absl::Status AttendChosen(int layer, const PartState& state, int32_t first, int32_t rows,
                            const int32_t* chosen, int32_t slots, kernels::Bf16* out);
  absl::Status AttendWidened(int layer, const Piece& piece, int32_t first, int32_t rows);
  // What attention of `rows` rows from `row` on left, to the observed row `at` and on.
  absl::Status AttendedToHost(int layer, const Observed& seen, int64_t at, int64_t row,
                              int64_t rows, int64_t slots);
  // The index branch's masses of a piece, and where the host gets to know them.
  absl::Status MassOfPiece(int layer, const Piece& piece, bool selected, bool scores);
  absl::Status MassToHost(int layer, const Piece& piece);
  absl::Status ObserveTiles(int layer, const Piece& piece, int32_t first, int32_t rows);
  absl::Status ObserveTileMass(int layer, const Piece& piece);
  absl::Status ObserveDecode(int layer);
  absl::Status AttendFetched(int layer);
  template <typename AttendRows>
  absl::Status FetchAndAttend(int layer, PartState* state, const int32_t* selected, int32_t slots,
                              int32_t rows, const AttendRows& attend);
  // With what is the same for all rows filled in.
  absl::Status IndexMass(int layer, kernels::IndexMassCudaParams params);
  template <typename T>
  absl::Status ToHost(T* to, const T* from, int64_t count) {
    return device_->ToHost(to, from, count * int64_t{sizeof(T)});
  }

  int64_t q_width() const { return int64_t{config().num_heads} * config().head_dim; }
  int64_t index_q_width() const {
    return int64_t{config().num_kv_heads} * config().sparse.index_dim;
  }
  int64_t stored_width() const {
    return 2 * int64_t{config().kv_width()} + config().sparse.index_dim;
  }
  int32_t budget() const { return options_.selected_blocks; }
  bool decode_only() const { return rows_.tiles() == 0; }
  // The queries of a layer, [rows][heads * head_dim].
  kernels::Bf16* q(int layer) {
    return decode_only() && decode_observed_ ? decode_seen_[layer].q : q_.get();
  }
  // Of numbers that parameters hold, coarse ones: of decode rows, some then without a token, and of
  // a bound of positions.
  static int64_t FormRows(int64_t decode_rows);
  static int32_t PositionBound(int64_t position);
  float scale() const;

  const std::unique_ptr<Device> device_;
  std::unique_ptr<DeviceWeights> weights_;
  std::unique_ptr<DevicePages> pages_;
  const KvMemory* memory_ = nullptr;  // of all contexts
  absl::Status broken_;               // the device failed: nothing works any more
  bool replay_ = true;
  std::atomic<int64_t> replayed_steps_ = 0, launched_steps_ = 0;  // of decode rows alone

  // The step at hand; memory is kept from step to step.
  PinnedArena arena_;
  StepRows rows_;
  std::vector<PartState> parts_;
  // [layers] all decode rows, if some are observed: for the host, and where it is made.
  std::vector<Observed> decode_region_, decode_seen_;
  Outgoing seen_out_;
  std::vector<Piece> pieces_;  // of tiled parts that somebody looks at, plain ones
  std::vector<Piece> widened_pieces_;
  struct AskingRow {
    const Part* part;
    int32_t row;  // in the part
  };
  std::vector<AskingRow> asking_;
  std::vector<int32_t> asking_rows_;  // theirs, then perhaps some without a token
  bool resident_ = false;             // all pages of all parts are here
  int32_t sequences_ = 0;             // plain tiled parts
  int32_t all_sequences_ = 0;         // and what covers the tiles' other rows
  int32_t sequence_rows_max_ = 0, sequence_rows_ = 0, sequence_tokens_max_ = 0;
  bool any_plain_decode_ = false;
  bool decode_observed_ = false;
  int32_t decode_spans_ = 0;  // of decode parts, then of rows without a token
  int32_t span_rows_ = 0;
  const kernels::IndexMassRequest* decode_requests_ = nullptr;  // device
  int32_t decode_position_max_ = 0;
  float* host_logits_ = nullptr;
  Outgoing rows_out_;  // k, v, index k of all rows
  StepInput input_{};
  std::byte* host_input_ = nullptr;  // pinned
  int64_t input_bytes_ = 0;
  DeviceArray<std::byte> input_memory_, seen_memory_;
  DeviceArray<float> x_, projected_, logits_;
  DeviceArray<kernels::Bf16> normed_, q_, index_q_, stored_, attended_, activated_, last_;
  DeviceArray<int32_t> selected_;       // [rows][kv_heads][budget]
  DeviceArray<float> scores_;           // [decode rows][kv_heads][table_stride]
  DeviceArray<float> lse_, block_lse_;  // of rows that the decode kernels take
  DeviceArray<float> mass_block_lse_, mass_block_max_, mass_visible_, mass_selected_;
  DeviceArray<int32_t> wide_selected_;     // [piece][kv_heads][widest]
  DeviceArray<kernels::Bf16> unused_out_;  // of rows that are only observed
  DeviceArray<kernels::PrefillSequence> part_sequence_;
};

}  // namespace lectern::engine
