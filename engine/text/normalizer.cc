#include "engine/text/normalizer.h"

#include <fmt/format.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/regex.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/utf8.h"

namespace lectern::engine {

void NormalizedText::Replace(std::string text, const SourceMap& map) {
  map_ = map_.has_value() ? map.Compose(*map_) : map;
  storage_ = std::move(text);
  text_ = storage_;
}

class Normalizer::Step {
 public:
  virtual ~Step() = default;
  virtual absl::Status Apply(NormalizedText* text) const = 0;
};

namespace {

// Collects a step's result. Nothing changed: nothing is replaced.
class Rewriter {
 public:
  explicit Rewriter(NormalizedText* text) : target_(text) {}

  std::string_view in() const { return target_->text(); }

  void Keep(size_t begin, size_t end) {
    out_.append(in(), begin, end - begin);
    map_.AddLinear(begin, end - begin);
  }

  void Put(std::string_view replacement, size_t begin, size_t end) {
    if (replacement == in().substr(begin, end - begin)) return Keep(begin, end);
    changed_ = true;
    if (replacement.empty()) return;
    out_ += replacement;
    map_.AddUnit(replacement.size(), begin, end);
  }

  void Finish() {
    if (changed_) target_->Replace(std::move(out_), std::move(map_).Build());
  }

 private:
  NormalizedText* target_;
  std::string out_;
  SourceMap::Builder map_;
  bool changed_ = false;
};

class UnicodeForm : public Normalizer::Step {
 public:
  explicit UnicodeForm(const icu::Normalizer2* form) : form_(form) {}

  absl::Status Apply(NormalizedText* text) const override {
    Rewriter rewriter(text);
    const std::string_view in = rewriter.in();
    size_t i = 0;
    while (i < in.size()) {
      const size_t inert_end = EndOfAscii(in, i);
      if (inert_end > i) {
        rewriter.Keep(i, inert_end);
        i = inert_end;
        continue;
      }
      LECTERN_ASSIGN_OR_RETURN(i, Segment(in, i, &rewriter));
    }
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  // ASCII is its own normal form in all four, but its last character may compose with what follows
  // it.
  static size_t EndOfAscii(std::string_view in, size_t i) {
    const size_t begin = i;
    while (i < in.size() && static_cast<uint8_t>(in[i]) < 0x80) ++i;
    return i < in.size() && i > begin ? i - 1 : i;
  }

  // Normalises from `begin` to the next boundary and returns it.
  absl::StatusOr<size_t> Segment(std::string_view in, size_t begin, Rewriter* rewriter) const {
    size_t end = begin;
    icu::UnicodeString segment;
    size_t characters = 0;
    while (end < in.size()) {
      const CodePoint point = DecodeUtf8(in, end);
      const auto value = static_cast<UChar32>(point.value);
      if (end > begin && form_->hasBoundaryBefore(value)) break;
      if (++characters > kMaxCombiningRun) {
        return InvalidArgument(
            reason::kWordTooLong,
            fmt::format("over {} combining characters in a row at byte {}: this is no running text",
                        kMaxCombiningRun, begin),
            {{"offset", std::to_string(begin)}});
      }
      segment.append(value);
      end += point.length;
    }
    UErrorCode error = U_ZERO_ERROR;
    std::string normal;
    form_->normalize(segment, error).toUTF8String(normal);
    if (U_FAILURE(error)) {
      return Error(absl::StatusCode::kInternal, reason::kTokenizerBroken,
                   fmt::format("Unicode normalisation failed: {}", u_errorName(error)));
    }
    rewriter->Put(normal, begin, end);
    return end;
  }

  const icu::Normalizer2* form_;
};

// Rewrites character by character.
class PerCharacter : public Normalizer::Step {
 public:
  // Appends what `character` becomes.
  using Rewrite = void (*)(char32_t character, std::string* out);
  explicit PerCharacter(Rewrite rewrite) : rewrite_(rewrite) {}

  absl::Status Apply(NormalizedText* text) const override {
    Rewriter rewriter(text);
    const std::string_view in = rewriter.in();
    std::string replacement;
    for (size_t i = 0; i < in.size();) {
      const CodePoint point = DecodeUtf8(in, i);
      replacement.clear();
      rewrite_(point.value, &replacement);
      rewriter.Put(replacement, i, i + point.length);
      i += point.length;
    }
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  Rewrite rewrite_;
};

void ToLower(char32_t character, std::string* out) {
  constexpr char32_t kCapitalIWithDot = 0x130;  // the one character whose lower case is two
  if (character == kCapitalIWithDot) {
    *out += "i\xcc\x87";
  } else {
    AppendUtf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(character))), out);
  }
}

void DropNonSpacingMark(char32_t character, std::string* out) {
  if (u_charType(static_cast<UChar32>(character)) != U_NON_SPACING_MARK) AppendUtf8(character, out);
}

class ReplaceMatches : public Normalizer::Step {
 public:
  ReplaceMatches(std::shared_ptr<const Regex> regex, std::string content)
      : regex_(std::move(regex)), content_(std::move(content)) {}

  absl::Status Apply(NormalizedText* text) const override {
    Rewriter rewriter(text);
    const std::string_view in = rewriter.in();
    RegexMatcher matcher(regex_);
    size_t done = 0;
    while (done < in.size()) {
      LECTERN_ASSIGN_OR_RETURN(const std::optional<Match> match, matcher.Find(in, done));
      if (!match.has_value() || match->begin == match->end) break;
      rewriter.Keep(done, match->begin);
      rewriter.Put(content_, match->begin, match->end);
      done = match->end;
    }
    rewriter.Keep(done, in.size());
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  std::shared_ptr<const Regex> regex_;
  std::string content_;
};

class PrependString : public Normalizer::Step {
 public:
  explicit PrependString(std::string prefix) : prefix_(std::move(prefix)) {}

  absl::Status Apply(NormalizedText* text) const override {
    if (text->text().empty()) return absl::OkStatus();
    Rewriter rewriter(text);
    rewriter.Put(prefix_, 0, 0);
    rewriter.Keep(0, rewriter.in().size());
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  std::string prefix_;
};

class StripBlanks : public Normalizer::Step {
 public:
  StripBlanks(bool left, bool right) : left_(left), right_(right) {}

  absl::Status Apply(NormalizedText* text) const override {
    Rewriter rewriter(text);
    const std::string_view in = rewriter.in();
    size_t begin = 0;
    size_t end = in.size();
    while (left_ && begin < end) {
      const CodePoint point = DecodeUtf8(in, begin);
      if (!u_isUWhiteSpace(static_cast<UChar32>(point.value))) break;
      begin += point.length;
    }
    while (right_ && end > begin) {
      size_t last = end - 1;
      while (IsUtf8Continuation(in[last])) --last;
      if (!u_isUWhiteSpace(static_cast<UChar32>(DecodeUtf8(in, last).value))) break;
      end = last;
    }
    rewriter.Put("", 0, begin);
    rewriter.Keep(begin, end);
    rewriter.Put("", end, in.size());
    rewriter.Finish();
    return absl::OkStatus();
  }

 private:
  bool left_;
  bool right_;
};

using Steps = std::vector<std::unique_ptr<const Normalizer::Step>>;

absl::StatusOr<const icu::Normalizer2*> UnicodeFormNamed(std::string_view name) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* form = nullptr;
  if (name == "NFC") form = icu::Normalizer2::getNFCInstance(error);
  if (name == "NFD") form = icu::Normalizer2::getNFDInstance(error);
  if (name == "NFKC") form = icu::Normalizer2::getNFKCInstance(error);
  if (name == "NFKD") form = icu::Normalizer2::getNFKDInstance(error);
  if (U_FAILURE(error)) {
    return Error(absl::StatusCode::kInternal, reason::kTokenizerBroken,
                 fmt::format("ICU has no {} data: {}", name, u_errorName(error)));
  }
  return form;
}

absl::Status ParseInto(const nlohmann::json& json, int depth, Steps* steps) {
  if (json.is_null()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const std::string type, ComponentType(json, "normalizer", depth));
  LECTERN_ASSIGN_OR_RETURN(const icu::Normalizer2* form, UnicodeFormNamed(type));
  if (form != nullptr) {
    steps->push_back(std::make_unique<UnicodeForm>(form));
  } else if (type == "Sequence") {
    LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* list,
                             ArrayField(json, "normalizer", "normalizers"));
    for (const nlohmann::json& entry : *list) {
      LECTERN_RETURN_IF_ERROR(ParseInto(entry, depth + 1, steps));
    }
  } else if (type == "Lowercase") {
    steps->push_back(std::make_unique<PerCharacter>(ToLower));
  } else if (type == "StripAccents") {
    steps->push_back(std::make_unique<PerCharacter>(DropNonSpacingMark));
  } else if (type == "Replace") {
    LECTERN_ASSIGN_OR_RETURN(const std::string pattern, PatternField(json, "normalizer"));
    LECTERN_ASSIGN_OR_RETURN(std::string content, StringField(json, "normalizer", "content"));
    if (pattern.empty()) return absl::OkStatus();
    LECTERN_ASSIGN_OR_RETURN(std::shared_ptr<const Regex> regex, Regex::Compile(pattern));
    steps->push_back(std::make_unique<ReplaceMatches>(std::move(regex), std::move(content)));
  } else if (type == "Prepend") {
    LECTERN_ASSIGN_OR_RETURN(std::string prefix, StringField(json, "normalizer", "prepend"));
    steps->push_back(std::make_unique<PrependString>(std::move(prefix)));
  } else if (type == "Strip") {
    LECTERN_ASSIGN_OR_RETURN(const bool left, BoolField(json, "normalizer", "strip_left"));
    LECTERN_ASSIGN_OR_RETURN(const bool right, BoolField(json, "normalizer", "strip_right"));
    steps->push_back(std::make_unique<StripBlanks>(left, right));
  } else {
    return UnsupportedComponent("normalizer", type);
  }
  return absl::OkStatus();
}

}  // namespace

Normalizer::Normalizer() = default;
Normalizer::~Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;

absl::StatusOr<Normalizer> Normalizer::Parse(const nlohmann::json& json) {
  Normalizer normalizer;
  LECTERN_RETURN_IF_ERROR(ParseInto(json, 0, &normalizer.steps_));
  return normalizer;
}

absl::Status Normalizer::Apply(NormalizedText* text) const {
  for (const std::unique_ptr<const Step>& step : steps_) {
    LECTERN_RETURN_IF_ERROR(step->Apply(text));
  }
  return absl::OkStatus();
}

}  // namespace lectern::engine
