// Normalisers of tokenizer.json: what happens to a text before it is split, and where each byte
// came from.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/source_map.h"

namespace lectern::engine {

// A text on its way through normalisers. Begins as a view of the original, which must outlive it.
class NormalizedText {
 public:
  explicit NormalizedText(std::string_view original) : text_(original) {}
  NormalizedText(const NormalizedText&) = delete;
  NormalizedText& operator=(const NormalizedText&) = delete;

  std::string_view text() const { return text_; }
  // From text() to the original; nullptr: byte for byte.
  const SourceMap* map() const { return map_.has_value() ? &*map_ : nullptr; }

  // The next state: `text` and its map to the present text().
  void Replace(std::string text, const SourceMap& map);

 private:
  std::string storage_;
  std::string_view text_;
  std::optional<SourceMap> map_;
};

// Immutable, thread-safe.
class Normalizer {
 public:
  // `json` is the value of "normalizer", null included. Errors as Tokenizer::Load.
  static absl::StatusOr<Normalizer> Parse(const nlohmann::json& json);

  Normalizer();
  ~Normalizer();
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;

  bool empty() const { return steps_.empty(); }

  // Valid UTF-8 in, valid UTF-8 out. INVALID_ARGUMENT / WORD_TOO_LONG for more combining characters
  // in a row than kMaxCombiningRun (sorting them costs the square of their number; Unicode's
  // stream-safe text has 30).
  absl::Status Apply(NormalizedText* text) const;

  class Step;

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

inline constexpr size_t kMaxCombiningRun = 1024;

}  // namespace lectern::engine
