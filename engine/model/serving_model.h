// A model directory made ready to serve: weights, tokenizer, prompt layout, decoder, and the
// fingerprint that names every byte they leave in a cache. Immutable but for the decoder, which the
// step thread uses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/device/device_decoder.h"
#include "engine/model/checkpoint.h"
#include "engine/model/coverage_calibration.h"
#include "engine/model/decoder.h"
#include "engine/model/fingerprint.h"
#include "engine/text/prompt_layout.h"
#include "engine/text/tokenizer.h"

namespace lectern::engine {

// Opens the device that computes.
using DeviceOpener = std::function<absl::StatusOr<std::unique_ptr<Device>>()>;

// What computes.
struct BackendOptions {
  DeviceOpener open_device;  // empty: the CPU
  // Where the device cannot be had, does not serve the model or has too little memory, the CPU
  // does.
  bool or_cpu = false;
  DeviceDecoderOptions sizes;
};

class ServingModel {
 public:
  // force_dense: full attention in every layer, a fingerprint of its own. context_tokens: see
  // LayoutLimits. Errors: those of
  // Checkpoint::Load, Tokenizer::LoadFile, PromptLayout::Create, CpuDecoder::Create,
  // DeviceDecoder::Create, the opener of the device and CoverageCalibration::Parse; NOT_FOUND
  // MODEL_NOT_FOUND when there is no such directory.
  static absl::StatusOr<std::unique_ptr<ServingModel>> Load(const std::string& directory,
                                                            bool force_dense,
                                                            const BackendOptions& backend = {},
                                                            int64_t context_tokens = 0);

  const ModelConfig& config() const { return checkpoint_->config(); }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const PromptLayout& layout() const { return *layout_; }
  Decoder& decoder() { return *decoder_; }
  const Decoder& decoder() const { return *decoder_; }
  const Sha256Digest& fingerprint() const { return fingerprint_; }
  // What computes here: stored with every block.
  const std::string& provenance() const { return provenance_; }
  // Null if the directory has none, or nothing is ever left out (force_dense).
  const CoverageCalibration* calibration() const {
    return calibration_.has_value() ? &*calibration_ : nullptr;
  }
  // Why the CPU computes where a device was preferred; else empty.
  const std::string& fallback() const { return fallback_; }
  const std::string& name() const { return name_; }  // of the directory
  int64_t parameters() const;
  bool dense() const { return dense_; }
  // An answer ends with one of these tokens: <end>, or what the configuration names.
  bool EndsAnswer(TokenId id) const;

 private:
  ServingModel() = default;

  std::string name_;
  bool dense_ = false;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<PromptLayout> layout_;
  std::unique_ptr<Decoder> decoder_;
  std::optional<CoverageCalibration> calibration_;
  Sha256Digest fingerprint_{};
  std::string provenance_;
  std::string fallback_;
};

}  // namespace lectern::engine
