// Regular expressions of tokenizer.json, which are written for Oniguruma (Ruby syntax), run by
// PCRE2.
//
// Translated where the two differ silently: \s and \w (Unicode's White_Space; Alphabetic, Mark,
// Decimal_Number, Connector_Punctuation), \h (a hexadecimal digit), ^ and $ (always of lines).
// Refused where a translation would be guesswork: && and nested sets inside a set, {n,m}+, \S and
// \W inside a set, \K, \G, \b, \R, \X. The reference's Unicode tables may be a version newer than
// PCRE2's.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace lectern::engine {

struct Match {
  size_t begin = 0;
  size_t end = 0;
};

// Immutable, thread-safe.
class Regex {
 public:
  // Errors: INVALID_ARGUMENT / TOKENIZER_BROKEN (does not compile), UNIMPLEMENTED /
  // TOKENIZER_UNSUPPORTED.
  static absl::StatusOr<std::shared_ptr<const Regex>> Compile(std::string_view oniguruma);

  // The expression given to PCRE2.
  static absl::StatusOr<std::string> Translate(std::string_view oniguruma);

  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

 private:
  friend class RegexMatcher;
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

// The working memory of matching, for one thread at a time.
class RegexMatcher {
 public:
  explicit RegexMatcher(std::shared_ptr<const Regex> regex);
  ~RegexMatcher();
  RegexMatcher(RegexMatcher&&) noexcept;

  // The first match in `utf8` (valid) at or after `from`. INVALID_ARGUMENT / WORD_TOO_LONG when
  // matching takes unreasonable effort.
  absl::StatusOr<std::optional<Match>> Find(std::string_view utf8, size_t from);

 private:
  struct Memory;
  std::shared_ptr<const Regex> regex_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace lectern::engine
