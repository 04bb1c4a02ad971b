#include "engine/model/serving_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/model/cpu_decoder.h"
#include "engine/text/extractor.h"

namespace lectern::engine {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) {
    return Error(absl::StatusCode::kNotFound, reason::kModelFileUnreadable,
                 fmt::format("cannot read {}", path));
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<DeviceDecoder>> OnDevice(const Checkpoint* checkpoint,
                                                        const DecoderOptions& options,
                                                        const BackendOptions& backend) {
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, backend.open_device());
  return DeviceDecoder::Create(std::move(device), checkpoint, options, backend.sizes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServingModel>> ServingModel::Load(const std::string& directory,
                                                                 bool force_dense,
                                                                 const BackendOptions& backend,
                                                                 int64_t context_tokens) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    return Error(absl::StatusCode::kNotFound, "MODEL_NOT_FOUND",
                 fmt::format("{} is not a directory: --model_dir must name a directory with "
                             "config.json, tokenizer.json "
                             "and *.safetensors",
                             directory));
  }
  auto model = std::unique_ptr<ServingModel>(new ServingModel());
  model->name_ = std::filesystem::weakly_canonical(directory, ignored).filename().string();
  model->dense_ = force_dense;
  LECTERN_ASSIGN_OR_RETURN(model->checkpoint_, Checkpoint::Load(directory));
  const ModelConfig& config = model->config();

  const std::string tokenizer_path = directory + "/tokenizer.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string tokenizer_json, ReadFile(tokenizer_path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(tokenizer_json);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), tokenizer_path);
  model->tokenizer_ = *std::move(tokenizer);
  if (model->tokenizer_->vocab_size() > config.vocab_size) {
    return InvalidArgument(
        reason::kModelTokenizerMismatch,
        fmt::format("{} has ids up to {}, but the model's vocab_size is {}", tokenizer_path,
                    model->tokenizer_->vocab_size() - 1, config.vocab_size));
  }
  if (config.prompt_layout != kPromptLayoutName) {
    return Error(absl::StatusCode::kUnimplemented, reason::kModelUnsupported,
                 fmt::format("{}/config.json: prompt_layout is \"{}\"; this server speaks \"{}\"",
                             directory, config.prompt_layout, kPromptLayoutName));
  }
  LECTERN_ASSIGN_OR_RETURN(
      PromptLayout layout,
      PromptLayout::Create(model->tokenizer_.get(), {.max_positions = config.max_positions,
                                                     .context_tokens = context_tokens}));
  model->layout_ = std::make_unique<PromptLayout>(std::move(layout));

  DecoderOptions options = {.attention = config.attention,
                            .selected_blocks = config.sparse.topk_blocks};
  if (force_dense)
    std::fill(options.attention.begin(), options.attention.end(), LayerAttention::kDense);
  if (backend.open_device) {
    absl::StatusOr<std::unique_ptr<DeviceDecoder>> decoder =
        OnDevice(model->checkpoint_.get(), options, backend);
    if (decoder.ok()) {
      model->decoder_ = *std::move(decoder);
    } else if (backend.or_cpu) {
      model->fallback_ = std::string(decoder.status().message());
    } else {
      return decoder.status();
    }
  }
  if (model->decoder_ == nullptr) {
    LECTERN_ASSIGN_OR_RETURN(model->decoder_,
                             CpuDecoder::Create(model->checkpoint_.get(), options));
  }

  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const Sha256Digest weights = HashWeights(model->checkpoint_->files(), threads);
  const std::string calibration_path = directory + "/" + std::string(kCoverageCalibrationFile);
  const auto sparse_layers =
      std::count(options.attention.begin(), options.attention.end(), LayerAttention::kSparse);
  if (sparse_layers > 0 && std::filesystem::exists(calibration_path, ignored)) {
    LECTERN_ASSIGN_OR_RETURN(const std::string json, ReadFile(calibration_path));
    absl::StatusOr<CoverageCalibration> calibration = CoverageCalibration::Parse(
        json, static_cast<int>(sparse_layers), config.num_kv_heads, ToHex(weights));
    if (!calibration.ok()) return Annotate(calibration.status(), directory);
    model->calibration_ = *std::move(calibration);
  }
  model->fingerprint_ = ModelFingerprint({.weights = weights,
                                          .tokenizer = tokenizer_json,
                                          .config = &config,
                                          .attention = options.attention,
                                          .block_tokens = static_cast<int32_t>(kBlockTokens),
                                          .selection_blocks = options.selected_blocks,
                                          .prompt_layout = kPromptLayoutName,
                                          .text_extractor_version = kTextExtractorVersion});
  model->provenance_ = model->decoder_->Provenance();
  return model;
}

int64_t ServingModel::parameters() const {
  const auto size = [](const Bf16Matrix& m) { return m.rows * m.cols; };
  int64_t count =
      size(checkpoint_->embedding()) + static_cast<int64_t>(checkpoint_->final_norm().size());
  if (!config().tied_embeddings) count += size(checkpoint_->lm_head());
  for (const LayerWeights& layer : checkpoint_->layers()) {
    for (const Bf16Matrix* m : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.index_q,
                                &layer.index_k, &layer.gate, &layer.up, &layer.down}) {
      count += size(*m);
    }
    for (const Gain& gain : {layer.input_norm, layer.post_attention_norm, layer.q_norm,
                             layer.k_norm, layer.index_q_norm, layer.index_k_norm}) {
      count += static_cast<int64_t>(gain.size());
    }
  }
  return count;
}

bool ServingModel::EndsAnswer(TokenId id) const {
  const std::vector<int32_t>& eos = config().eos_token_ids;
  return id == layout_->end() || std::find(eos.begin(), eos.end(), id) != eos.end();
}

}  // namespace lectern::engine
