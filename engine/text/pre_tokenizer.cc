#include "engine/text/pre_tokenizer.h"

#include <fmt/format.h>
#include <unicode/uchar.h>

#include <nlohmann/json.hpp>
#include <string>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

// The split of GPT-2, which ByteLevel with use_regex stands for.
constexpr std::string_view kGpt2Split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Characters are put into classes; a match is one character of class 1, or a maximal run of one
// class but 0.
using Classify = int (*)(char32_t);

int ClassifyNumeric(char32_t c) {
  const uint32_t mask = U_GET_GC_MASK(static_cast<UChar32>(c));
  return (mask & (U_GC_ND_MASK | U_GC_NL_MASK | U_GC_NO_MASK)) != 0 ? 1 : 0;
}

int ClassifyBlank(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)) ? 1 : 0; }

int ClassifyPunctuation(char32_t c) {
  if (c < 0x80) return std::ispunct(static_cast<int>(c)) != 0 ? 1 : 0;
  return u_ispunct(static_cast<UChar32>(c)) ? 1 : 0;
}

// \w+|[^\w\s]+ : words 1, what is neither word nor blank 2.
int ClassifyWord(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  if (u_isUWhiteSpace(point)) return 0;
  const uint32_t mask = U_GET_GC_MASK(point);
  const bool word = u_hasBinaryProperty(point, UCHAR_ALPHABETIC) ||
                    u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
                    (mask & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
  return word ? 1 : 2;
}

}  // namespace

struct PreTokenizer::Step {
  std::shared_ptr<const Regex> regex;  // a split by expression; null with `classify` null: no split
  Classify classify = nullptr;         // a split by characters
  bool runs = false;                   // of `classify`: maximal runs instead of single characters
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  bool byte_level = false;
  bool add_prefix_space = false;

  bool splits() const { return regex != nullptr || classify != nullptr; }
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

namespace {

absl::StatusOr<SplitBehavior> BehaviorField(const nlohmann::json& json) {
  LECTERN_ASSIGN_OR_RETURN(const std::string name, StringField(json, "pre_tokenizer", "behavior"));
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return UnsupportedSetting("pre_tokenizer", fmt::format("behavior \"{}\"", name));
}

absl::StatusOr<PreTokenizer::Step> ParseStep(const nlohmann::json& json, const std::string& type) {
  PreTokenizer::Step step;
  if (type == "Split") {
    LECTERN_ASSIGN_OR_RETURN(const std::string pattern, PatternField(json, "pre_tokenizer"));
    LECTERN_ASSIGN_OR_RETURN(step.behavior, BehaviorField(json));
    LECTERN_ASSIGN_OR_RETURN(step.invert, BoolField(json, "pre_tokenizer", "invert", false));
    if (!pattern.empty()) {
      LECTERN_ASSIGN_OR_RETURN(step.regex, Regex::Compile(pattern));
    }
  } else if (type == "ByteLevel") {
    step.byte_level = true;
    LECTERN_ASSIGN_OR_RETURN(step.add_prefix_space,
                             BoolField(json, "pre_tokenizer", "add_prefix_space"));
    LECTERN_ASSIGN_OR_RETURN(const bool use_regex,
                             BoolField(json, "pre_tokenizer", "use_regex", true));
    if (use_regex) {
      LECTERN_ASSIGN_OR_RETURN(step.regex, Regex::Compile(kGpt2Split));
    }
  } else if (type == "Digits") {
    LECTERN_ASSIGN_OR_RETURN(const bool individual,
                             BoolField(json, "pre_tokenizer", "individual_digits", false));
    step.classify = ClassifyNumeric;
    step.behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  } else if (type == "Whitespace") {
    step.classify = ClassifyWord;
    step.runs = true;
    step.behavior = SplitBehavior::kRemoved;
    step.invert = true;
  } else if (type == "WhitespaceSplit") {
    step.classify = ClassifyBlank;
    step.behavior = SplitBehavior::kRemoved;
  } else if (type == "Punctuation") {
    step.classify = ClassifyPunctuation;
    if (json.contains("behavior")) {
      LECTERN_ASSIGN_OR_RETURN(step.behavior, BehaviorField(json));
    }
  } else {
    return UnsupportedComponent("pre_tokenizer", type);
  }
  return step;
}

absl::Status ParseSteps(const nlohmann::json& json, int depth,
                        std::vector<PreTokenizer::Step>* steps) {
  const absl::StatusOr<std::string> type = ComponentType(json, "pre_tokenizer", depth);
  if (!type.ok()) return type.status();
  if (*type == "Sequence") {
    LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* list,
                             ArrayField(json, "pre_tokenizer", "pretokenizers"));
    for (const nlohmann::json& entry : *list) {
      LECTERN_RETURN_IF_ERROR(ParseSteps(entry, depth + 1, steps));
    }
    return absl::OkStatus();
  }
  if (!steps->empty() && steps->back().byte_level) {
    return UnsupportedSetting("pre_tokenizer", fmt::format("\"{}\" after ByteLevel", *type));
  }
  LECTERN_ASSIGN_OR_RETURN(PreTokenizer::Step step, ParseStep(json, *type));
  steps->push_back(std::move(step));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const nlohmann::json& json) {
  PreTokenizer pre_tokenizer;
  if (!json.is_null()) {
    LECTERN_RETURN_IF_ERROR(ParseSteps(json, 0, &pre_tokenizer.steps_));
  }
  if (pre_tokenizer.steps_.empty() || !pre_tokenizer.steps_.back().byte_level) {
    return UnsupportedSetting("pre_tokenizer",
                              "no ByteLevel at its end (only byte-level models are read)");
  }
  return pre_tokenizer;
}

PreTokenizer::Session::Session(const PreTokenizer* pre_tokenizer) {
  for (const Step& step : pre_tokenizer->steps_) {
    matchers_.emplace_back();
    if (step.regex != nullptr) matchers_.back().emplace(step.regex);
  }
}

// Splits depth-first: each piece goes through all later steps before the next one is looked for, so
// that nothing is collected.
class PreTokenizer::Run {
 public:
  Run(const std::vector<Step>& steps, Session* session, const WordSink& sink)
      : steps_(steps), session_(*session), sink_(sink) {}

  // `piece` begins at `base` of the whole text (at base - 1 if a space was put before it).
  absl::Status Process(size_t index, std::string_view piece, size_t base, bool prefixed) {
    if (piece.empty()) return absl::OkStatus();
    if (index == steps_.size()) return sink_({piece, base, prefixed});
    const Step& step = steps_[index];
    if (step.byte_level && step.add_prefix_space && !prefixed && piece.front() != ' ') {
      std::string with_space;
      with_space.reserve(piece.size() + 1);
      with_space += ' ';
      with_space += piece;
      return Process(index, with_space, base, /*prefixed=*/true);
    }
    if (!step.splits()) return Process(index + 1, piece, base, prefixed);
    return SplitPiece(index, piece, base, prefixed);
  }

 private:
  struct Segment {
    size_t begin = 0;
    size_t end = 0;
    bool match = false;
  };

  // The next match of the step at or after `from`; an empty one right after the last match does not
  // count.
  absl::StatusOr<std::optional<Match>> NextMatch(size_t index, std::string_view piece, size_t from,
                                                 std::optional<size_t> last_end) {
    const Step& step = steps_[index];
    if (step.classify != nullptr) return NextOfClass(step, piece, from);
    while (from <= piece.size()) {
      LECTERN_ASSIGN_OR_RETURN(const std::optional<Match> match,
                               session_.matchers_[index]->Find(piece, from));
      if (!match.has_value()) return match;
      if (match->begin != match->end || last_end != match->end) return match;
      from = match->end < piece.size() ? match->end + DecodeUtf8(piece, match->end).length
                                       : piece.size() + 1;
    }
    return std::optional<Match>();
  }

  static std::optional<Match> NextOfClass(const Step& step, std::string_view piece, size_t from) {
    while (from < piece.size()) {
      const CodePoint first = DecodeUtf8(piece, from);
      const int wanted = step.classify(first.value);
      size_t end = from + first.length;
      if (wanted == 0) {
        from = end;
        continue;
      }
      while (step.runs && end < piece.size()) {
        const CodePoint next = DecodeUtf8(piece, end);
        if (step.classify(next.value) != wanted) break;
        end += next.length;
      }
      return Match{from, end};
    }
    return std::nullopt;
  }

  absl::Status SplitPiece(size_t index, std::string_view piece, size_t base, bool prefixed) {
    std::optional<Segment> held;  // not passed on yet: what follows may join it
    bool previous_match = false;
    const auto pass_on = [&](const Segment& segment) {
      const size_t shift = prefixed && segment.begin > 0 ? 1 : 0;
      return Process(index + 1, piece.substr(segment.begin, segment.end - segment.begin),
                     base + segment.begin - shift, prefixed && segment.begin == 0);
    };
    const auto take = [&](Segment segment) -> absl::Status {
      segment.match = segment.match != steps_[index].invert;
      const bool was_match = std::exchange(previous_match, segment.match);
      bool joins = false;
      switch (steps_[index].behavior) {
        case SplitBehavior::kRemoved:
          return segment.match ? absl::OkStatus() : pass_on(segment);
        case SplitBehavior::kIsolated:
          return pass_on(segment);
        case SplitBehavior::kContiguous:
          joins = segment.match == was_match;
          break;
        case SplitBehavior::kMergedWithPrevious:
          joins = segment.match && !was_match;
          break;
        case SplitBehavior::kMergedWithNext:
          joins = !segment.match && was_match;
          break;
      }
      if (held.has_value() && joins) {
        held->end = segment.end;
        return absl::OkStatus();
      }
      const std::optional<Segment> ready = std::exchange(held, segment);
      return ready.has_value() ? pass_on(*ready) : absl::OkStatus();
    };

    size_t done = 0;
    std::optional<size_t> last_end;
    while (true) {
      LECTERN_ASSIGN_OR_RETURN(const std::optional<Match> match,
                               NextMatch(index, piece, done, last_end));
      if (!match.has_value()) break;
      if (match->begin > done) LECTERN_RETURN_IF_ERROR(take({done, match->begin, false}));
      LECTERN_RETURN_IF_ERROR(take({match->begin, match->end, true}));
      last_end = done = match->end;
    }
    if (done < piece.size()) LECTERN_RETURN_IF_ERROR(take({done, piece.size(), false}));
    return held.has_value() ? pass_on(*held) : absl::OkStatus();
  }

  const std::vector<Step>& steps_;
  Session& session_;
  const WordSink& sink_;
};

absl::Status PreTokenizer::Split(std::string_view utf8, Session* session,
                                 const WordSink& sink) const {
  return Run(steps_, session, sink).Process(0, utf8, 0, /*prefixed=*/false);
}

}  // namespace lectern::engine
