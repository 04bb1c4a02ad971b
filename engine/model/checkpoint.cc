#include "engine/model/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

constexpr size_t kAlignment = 64;
constexpr std::string_view kPrefix = "language_model.";
constexpr std::string_view kScaleSuffix = "_scale";

// Aligned memory of the loader's own.
template <typename T>
std::shared_ptr<T> AllocateAligned(size_t count) {
  void* memory = ::operator new(count * sizeof(T), std::align_val_t(kAlignment));
  return std::shared_ptr<T>(static_cast<T*>(memory),
                            [](T* p) { ::operator delete(p, std::align_val_t(kAlignment)); });
}

template <typename T>
T LoadAs(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// To nearest, ties to even. `value` is finite; what rounds beyond the largest bf16 becomes
// infinite.
uint16_t FloatToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// IEEE 754 binary16; exact.
float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0)
    return std::copysign(std::ldexp(static_cast<float>(mantissa), -24), sign != 0 ? -1.0f : 1.0f);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

std::optional<TensorDtype> DtypeOf(const TensorView& tensor) {
  for (const TensorDtype dtype :
       {TensorDtype::kBf16, TensorDtype::kF16, TensorDtype::kF32, TensorDtype::kI8}) {
    if (tensor.dtype_name == TensorDtypeName(dtype)) return dtype;
  }
  return std::nullopt;
}

// A power of two whose product with any int8 is a normal bf16 number or zero.
bool IsExactScale(float scale) {
  int exponent = 0;
  return std::isfinite(scale) && scale > 0 && std::frexp(scale, &exponent) == 0.5f &&
         exponent > -120 && exponent < 118;
}

absl::Status WrongDtype(const TensorView& tensor, std::string_view expected) {
  return InvalidArgument(
      reason::kTensorDtype,
      fmt::format("tensor {}: expected {}, found {}", tensor.name, expected, tensor.Describe()),
      {{"tensor", tensor.name}, {"expected", std::string(expected)}, {"found", tensor.dtype_name}});
}

absl::Status WrongValue(std::string_view tensor, int64_t index, float value,
                        std::string_view expected) {
  return InvalidArgument(
      reason::kTensorValue,
      fmt::format("tensor {}: value {} is {}, expected {}", tensor, index, value, expected),
      {{"tensor", std::string(tensor)}});
}

}  // namespace

// Takes tensors out of the files one by one and remembers which, so that what is left over can be
// judged.
class CheckpointLoader {
 public:
  explicit CheckpointLoader(Checkpoint* checkpoint) : out_(*checkpoint) {}

  absl::Status Run() {
    const ModelConfig& config = out_.config_;
    prefix_ = out_.files_.Find(fmt::format("{}model.embed_tokens.weight", kPrefix)) != nullptr
                  ? kPrefix
                  : "";
    LECTERN_RETURN_IF_ERROR(CheckNoHiddenIndexWeights());
    LECTERN_RETURN_IF_ERROR(Matrix("model.embed_tokens.weight", config.vocab_size,
                                   config.hidden_size, &out_.embedding_));
    LECTERN_RETURN_IF_ERROR(Norm("model.norm.weight", config.hidden_size, &out_.final_norm_));
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      out_.layers_.emplace_back();
      LECTERN_RETURN_IF_ERROR(Layer(layer, &out_.layers_.back()));
    }
    LECTERN_RETURN_IF_ERROR(Head());
    return CheckNothingLeft();
  }

 private:
  absl::Status Layer(int32_t number, LayerWeights* layer) {
    const ModelConfig& c = out_.config_;
    const std::string base = fmt::format("model.layers.{}.", number);
    const std::string attention = base + "self_attn.";
    const int64_t q_width = int64_t{c.num_heads} * c.head_dim;
    LECTERN_RETURN_IF_ERROR(
        Norm(base + "input_layernorm.weight", c.hidden_size, &layer->input_norm));
    LECTERN_RETURN_IF_ERROR(
        Norm(base + "post_attention_layernorm.weight", c.hidden_size, &layer->post_attention_norm));
    LECTERN_RETURN_IF_ERROR(Matrix(attention + "q_proj.weight", q_width, c.hidden_size, &layer->q));
    LECTERN_RETURN_IF_ERROR(
        Matrix(attention + "k_proj.weight", c.kv_width(), c.hidden_size, &layer->k));
    LECTERN_RETURN_IF_ERROR(
        Matrix(attention + "v_proj.weight", c.kv_width(), c.hidden_size, &layer->v));
    LECTERN_RETURN_IF_ERROR(Matrix(attention + "o_proj.weight", c.hidden_size, q_width, &layer->o));
    if (c.qk_norm) {
      LECTERN_RETURN_IF_ERROR(Norm(attention + "q_norm.weight", c.head_dim, &layer->q_norm));
      LECTERN_RETURN_IF_ERROR(Norm(attention + "k_norm.weight", c.head_dim, &layer->k_norm));
    }
    if (c.attention[number] == LayerAttention::kSparse) {
      const int64_t dim = c.sparse.index_dim;
      LECTERN_RETURN_IF_ERROR(Matrix(attention + "index_q_proj.weight", c.sparse.index_heads * dim,
                                     c.hidden_size, &layer->index_q));
      LECTERN_RETURN_IF_ERROR(
          Matrix(attention + "index_k_proj.weight", dim, c.hidden_size, &layer->index_k));
      LECTERN_RETURN_IF_ERROR(Norm(attention + "index_q_norm.weight", dim, &layer->index_q_norm));
      LECTERN_RETURN_IF_ERROR(Norm(attention + "index_k_norm.weight", dim, &layer->index_k_norm));
    }
    LECTERN_RETURN_IF_ERROR(
        Matrix(base + "mlp.gate_proj.weight", c.intermediate_size, c.hidden_size, &layer->gate));
    LECTERN_RETURN_IF_ERROR(
        Matrix(base + "mlp.up_proj.weight", c.intermediate_size, c.hidden_size, &layer->up));
    return Matrix(base + "mlp.down_proj.weight", c.hidden_size, c.intermediate_size, &layer->down);
  }

  absl::Status Head() {
    const ModelConfig& c = out_.config_;
    if (!c.tied_embeddings)
      return Matrix("lm_head.weight", c.vocab_size, c.hidden_size, &out_.lm_head_);
    out_.lm_head_ = out_.embedding_;
    if (out_.files_.Find(Name("lm_head.weight")) == nullptr) return absl::OkStatus();
    // Some writers save the tied matrix twice. Another matrix would be a model that nobody
    // described.
    Bf16Matrix head;
    LECTERN_RETURN_IF_ERROR(Matrix("lm_head.weight", c.vocab_size, c.hidden_size, &head));
    const size_t bytes = static_cast<size_t>(head.rows) * head.cols * sizeof(uint16_t);
    if (std::memcmp(head.data, out_.embedding_.data, bytes) == 0) return absl::OkStatus();
    return InvalidArgument(reason::kTensorUnexpected,
                           fmt::format("tensor {} differs from the embedding, but config.json says "
                                       "tie_word_embeddings; set it to "
                                       "false, or take the tensor out",
                                       Name("lm_head.weight")),
                           {{"tensor", Name("lm_head.weight")}});
  }

  std::string Name(std::string_view name) const { return fmt::format("{}{}", prefix_, name); }

  absl::StatusOr<const TensorView*> Take(std::string_view bare_name,
                                         const std::vector<int64_t>& shape) {
    const std::string name = Name(bare_name);
    const TensorView* tensor = out_.files_.Find(name);
    if (tensor == nullptr) {
      return InvalidArgument(reason::kTensorMissing,
                             fmt::format("tensor {} [{}] is missing; the model directory is "
                                         "incomplete or of another architecture",
                                         name, fmt::join(shape, ", ")),
                             {{"tensor", name}});
    }
    if (tensor->shape != shape) {
      return InvalidArgument(reason::kTensorShape,
                             fmt::format("tensor {}: expected shape [{}] by config.json, found {}",
                                         name, fmt::join(shape, ", "), tensor->Describe()),
                             {{"tensor", name},
                              {"expected", fmt::format("[{}]", fmt::join(shape, ", "))},
                              {"found", tensor->Describe()}});
    }
    taken_.insert(name);
    return tensor;
  }

  absl::Status Matrix(std::string_view name, int64_t rows, int64_t cols, Bf16Matrix* matrix) {
    LECTERN_ASSIGN_OR_RETURN(const TensorView* tensor, Take(name, {rows, cols}));
    *matrix = {nullptr, rows, cols};
    const std::optional<TensorDtype> dtype = DtypeOf(*tensor);
    if (!dtype.has_value()) return WrongDtype(*tensor, "BF16, F16, F32 or I8 with a scale");
    const bool aligned = reinterpret_cast<uintptr_t>(tensor->bytes.data()) % alignof(uint16_t) == 0;
    if (*dtype == TensorDtype::kBf16 && aligned) {
      matrix->data = reinterpret_cast<const uint16_t*>(tensor->bytes.data());
      out_.stats_.mapped_bytes += static_cast<int64_t>(tensor->bytes.size());
      return CheckFinite(*tensor, *matrix);
    }
    const size_t count = static_cast<size_t>(rows) * cols;
    const std::shared_ptr<uint16_t> copy = AllocateAligned<uint16_t>(count);
    switch (*dtype) {
      case TensorDtype::kBf16:
        std::memcpy(copy.get(), tensor->bytes.data(), tensor->bytes.size());
        break;
      case TensorDtype::kF16:
        RoundToBf16(
            count,
            [&](size_t i) { return HalfToFloat(LoadAs<uint16_t>(tensor->bytes.data() + 2 * i)); },
            copy.get());
        break;
      case TensorDtype::kF32:
        RoundToBf16(
            count, [&](size_t i) { return LoadAs<float>(tensor->bytes.data() + 4 * i); },
            copy.get());
        break;
      case TensorDtype::kI8:
        LECTERN_RETURN_IF_ERROR(ExpandInt8(*tensor, name, rows, cols, copy.get()));
        break;
    }
    matrix->data = copy.get();
    out_.owned_.push_back(copy);
    out_.stats_.expanded_bytes += static_cast<int64_t>(count * sizeof(uint16_t));
    return CheckFinite(*tensor, *matrix);
  }

  // A NaN would make every answer nonsense without a word. Also catches what overflows bf16.
  static absl::Status CheckFinite(const TensorView& tensor, const Bf16Matrix& matrix) {
    constexpr uint16_t kExponent = 0x7f80;
    const size_t count = static_cast<size_t>(matrix.rows) * matrix.cols;
    for (size_t i = 0; i < count; ++i) {
      if ((matrix.data[i] & kExponent) == kExponent) {
        return WrongValue(tensor.name, static_cast<int64_t>(i), Bf16ToFloat(matrix.data[i]),
                          "a finite bf16 number");
      }
    }
    return absl::OkStatus();
  }

  template <typename ValueAt>
  void RoundToBf16(size_t count, ValueAt value_at, uint16_t* out) {
    int64_t changed = 0;
    for (size_t i = 0; i < count; ++i) {
      const float value = value_at(i);
      // Rounding a NaN's bits could make a number of it.
      out[i] = std::isnan(value) ? 0x7fc0 : FloatToBf16(value);
      if (Bf16ToFloat(out[i]) != value) ++changed;
    }
    out_.stats_.rounded_values += changed;
    ++out_.stats_.rounded_tensors;
  }

  absl::Status ExpandInt8(const TensorView& tensor, std::string_view bare_name, int64_t rows,
                          int64_t cols, uint16_t* out) {
    LECTERN_ASSIGN_OR_RETURN(const TensorView* scales,
                             Take(fmt::format("{}{}", bare_name, kScaleSuffix), {rows}));
    if (DtypeOf(*scales) != TensorDtype::kF32) return WrongDtype(*scales, "F32");
    for (int64_t r = 0; r < rows; ++r) {
      const auto scale = LoadAs<float>(scales->bytes.data() + r * sizeof(float));
      if (!IsExactScale(scale)) {
        return WrongValue(scales->name, r, scale,
                          "a power of two (so that the weights are exact in bf16)");
      }
      for (int64_t c = 0; c < cols; ++c) {
        const auto weight = static_cast<int8_t>(tensor.bytes[r * cols + c]);
        // Exact: at most eight significant bits.
        out[r * cols + c] = FloatToBf16(static_cast<float>(weight) * scale);
      }
    }
    ++out_.stats_.int8_tensors;
    return absl::OkStatus();
  }

  absl::Status Norm(std::string_view name, int64_t size, Gain* gain) {
    LECTERN_ASSIGN_OR_RETURN(const TensorView* tensor, Take(name, {size}));
    const std::optional<TensorDtype> dtype = DtypeOf(*tensor);
    if (!dtype.has_value() || *dtype == TensorDtype::kI8)
      return WrongDtype(*tensor, "BF16, F16 or F32");
    const std::shared_ptr<float> copy = AllocateAligned<float>(size);
    for (int64_t i = 0; i < size; ++i) {
      const std::byte* at = tensor->bytes.data() + i * TensorDtypeBytes(*dtype);
      float value = 0;
      if (*dtype == TensorDtype::kBf16) value = Bf16ToFloat(LoadAs<uint16_t>(at));
      if (*dtype == TensorDtype::kF16) value = HalfToFloat(LoadAs<uint16_t>(at));
      if (*dtype == TensorDtype::kF32) value = LoadAs<float>(at);
      if (!std::isfinite(value)) return WrongValue(tensor->name, i, value, "a finite number");
      copy.get()[i] = value;
    }
    *gain = {copy.get(), static_cast<size_t>(size)};
    out_.owned_.push_back(copy);
    out_.stats_.expanded_bytes += size * static_cast<int64_t>(sizeof(float));
    return absl::OkStatus();
  }

  // Asked first: of all that can be wrong this is the one that would go unnoticed.
  absl::Status CheckNoHiddenIndexWeights() const {
    for (const auto& [name, tensor] : out_.files_.tensors()) {
      const bool index = name.find(".self_attn.index_") != std::string::npos ||
                         name.find(".self_attn.indexer.") != std::string::npos;
      const std::string base = Name("model.layers.");
      if (!index || !name.starts_with(base)) continue;
      const int layer = std::atoi(name.c_str() + base.size());
      if (layer >= out_.config_.num_layers) continue;
      if (out_.config_.attention[layer] == LayerAttention::kDense) {
        return InvalidArgument(
            reason::kSparseConfigMissing,
            fmt::format(
                "tensor {} belongs to an index branch, but config.json says layer {} is dense: its "
                "sparse_attention_config was lost or changed, and the model would silently run "
                "dense; put it back",
                name, layer),
            {{"tensor", name}});
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckNothingLeft() {
    for (const auto& [name, tensor] : out_.files_.tensors()) {
      if (taken_.contains(name)) continue;
      const bool of_text_model =
          name.starts_with(Name("model.")) || name.starts_with(Name("lm_head."));
      if (!of_text_model) {
        ++out_.stats_.ignored_tensors;
        continue;
      }
      // Written by old exporters; computed from the configuration by everyone.
      if (name.ends_with(".rotary_emb.inv_freq")) continue;
      return InvalidArgument(reason::kTensorUnexpected,
                             fmt::format("tensor {} {} is of no use to the model that config.json "
                                         "describes: it is another architecture, "
                                         "or config.json was changed",
                                         name, tensor->Describe()),
                             {{"tensor", name}, {"found", tensor->Describe()}});
    }
    return absl::OkStatus();
  }

  Checkpoint& out_;
  std::string prefix_;
  std::set<std::string, std::less<>> taken_;
};

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Load(const std::string& directory) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  LECTERN_ASSIGN_OR_RETURN(checkpoint->config_, LoadModelConfig(directory + "/config.json"));
  LECTERN_ASSIGN_OR_RETURN(checkpoint->files_, SafetensorsSet::Open(directory));
  checkpoint->layers_.reserve(checkpoint->config_.num_layers);
  if (absl::Status status = CheckpointLoader(checkpoint.get()).Run(); !status.ok()) {
    return Annotate(status, directory);
  }
  return checkpoint;
}

}  // namespace lectern::engine
