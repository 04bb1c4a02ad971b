// Pre-tokenisers of tokenizer.json: a text to words, inside which alone tokens merge.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/text/regex.h"

namespace lectern::engine {

// A word as the byte-pair model sees it. `bytes` lives for the call of the sink.
struct Word {
  std::string_view bytes;
  // Where the word begins in the text that was split. With `prefixed`, bytes[0] is a space put in,
  // and bytes[1] is at `begin`.
  size_t begin = 0;
  bool prefixed = false;
};

using WordSink = std::function<absl::Status(const Word&)>;

// What becomes of the matches of a split (the names are the format's).
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Immutable, thread-safe.
class PreTokenizer {
 public:
  // `json` is the value of "pre_tokenizer". Its last step must be ByteLevel. Errors as
  // Tokenizer::Load.
  static absl::StatusOr<PreTokenizer> Parse(const nlohmann::json& json);

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Working memory of Split; one thread at a time, reusable.
  class Session {
   public:
    explicit Session(const PreTokenizer* pre_tokenizer);

   private:
    friend class PreTokenizer;
    std::vector<std::optional<RegexMatcher>> matchers_;  // one a step
  };

  // Calls `sink` for each word of `utf8` (valid), in order; stops at its first error. WORD_TOO_LONG
  // from a match.
  absl::Status Split(std::string_view utf8, Session* session, const WordSink& sink) const;

  struct Step;

 private:
  class Run;
  PreTokenizer();
  std::vector<Step> steps_;
};

}  // namespace lectern::engine
