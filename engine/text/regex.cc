#include "engine/text/regex.h"

#include <fmt/format.h>

#include <array>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace lectern::engine {
namespace {

constexpr size_t kJitStackStart = size_t{32} << 10;
constexpr size_t kJitStackMax = size_t{64} << 20;
// Steps and kibibytes one match may take without the just-in-time compiler.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr uint32_t kHeapLimitKib = 256 << 10;

// Members of a set, without brackets.
constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})"
    R"(\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr std::string_view kHexDigit = "0-9a-fA-F";

absl::Status Unsupported(std::string_view pattern, std::string_view what) {
  return Error(absl::StatusCode::kUnimplemented, reason::kTokenizerUnsupported,
               fmt::format("tokenizer.json: regular expression {} in \"{}\" is not supported", what,
                           pattern));
}

// One pass over the pattern; copies everything but what differs.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (i_ < in_.size()) {
      const char c = in_[i_];
      if (c == '\\') {
        LECTERN_RETURN_IF_ERROR(Escape());
      } else if (in_set_) {
        LECTERN_RETURN_IF_ERROR(InSet());
      } else if (c == '[') {
        OpenSet();
      } else if (c == '}' && Peek(1) == '+' && ClosesInterval()) {
        return Unsupported(in_,
                           "possessive interval {n,m}+ (it means another thing in each dialect)");
      } else {
        Copy(1);
      }
    }
    return out_;
  }

 private:
  char Peek(size_t ahead) const { return i_ + ahead < in_.size() ? in_[i_ + ahead] : '\0'; }
  void Copy(size_t count) {
    out_.append(in_, i_, count);
    i_ += count;
  }

  bool ClosesInterval() const {
    const size_t open = in_.rfind('{', i_);
    return open != std::string_view::npos &&
           in_.substr(open + 1, i_ - open - 1).find_first_not_of("0123456789,") ==
               std::string_view::npos;
  }

  void OpenSet() {
    in_set_ = true;
    Copy(1);
    if (Peek(0) == '^') Copy(1);
    // A ] in first place is a member, in both dialects.
    if (Peek(0) == ']') {
      out_ += "\\]";
      ++i_;
    }
  }

  absl::Status InSet() {
    const char c = in_[i_];
    if (c == ']') {
      in_set_ = false;
    } else if (c == '[' && Peek(1) == ':') {
      const size_t end = in_.find(":]", i_);
      if (end == std::string_view::npos) return Unsupported(in_, "[: without :]");
      Copy(end + 2 - i_);
      return absl::OkStatus();
    } else if (c == '[') {
      return Unsupported(in_, "set inside a set");
    } else if (c == '&' && Peek(1) == '&') {
      return Unsupported(in_, "set intersection &&");
    }
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Escape() {
    const char letter = Peek(1);
    std::string_view members;
    switch (letter) {
      case 's':
      case 'S':
        members = kSpace;
        break;
      case 'w':
      case 'W':
        members = kWord;
        break;
      case 'h':
      case 'H':
        members = kHexDigit;
        break;
      case 'K':
      case 'G':
      case 'C':
      case 'X':
      case 'R':
      case 'b':
      case 'B':
        // Inside a set, \b is a backspace in both.
        if (letter == 'b' && in_set_) break;
        return Unsupported(in_, fmt::format("\\{}", letter));
      default:
        break;
    }
    if (members.empty()) {
      Copy(2);
      return absl::OkStatus();
    }
    const bool negated = letter == 'S' || letter == 'W' || letter == 'H';
    if (in_set_ && negated) return Unsupported(in_, fmt::format("\\{} inside a set", letter));
    if (in_set_) {
      out_ += members;
    } else {
      out_ += fmt::format("[{}{}]", negated ? "^" : "", members);
    }
    i_ += 2;
    return absl::OkStatus();
  }

  std::string_view in_;
  size_t i_ = 0;
  bool in_set_ = false;
  std::string out_;
};

std::string MessageOf(int code) {
  std::array<PCRE2_UCHAR, 256> message{};
  pcre2_get_error_message(code, message.data(), message.size());
  return reinterpret_cast<const char*>(message.data());
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::~Regex() = default;

absl::StatusOr<std::string> Regex::Translate(std::string_view oniguruma) {
  return Translator(oniguruma).Run();
}

absl::StatusOr<std::shared_ptr<const Regex>> Regex::Compile(std::string_view oniguruma) {
  LECTERN_ASSIGN_OR_RETURN(const std::string pattern, Translate(oniguruma));
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &offset, nullptr);
  if (code->code == nullptr) {
    return InvalidArgument(
        reason::kTokenizerBroken,
        fmt::format(
            "tokenizer.json: regular expression \"{}\" does not compile: {} at {} of \"{}\"",
            oniguruma, MessageOf(error), offset, pattern));
  }
  // Where the platform has no just-in-time compiler the interpreter gives the same matches.
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  return std::shared_ptr<const Regex>(new Regex(std::move(code)));
}

struct RegexMatcher::Memory {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  ~Memory() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

RegexMatcher::RegexMatcher(std::shared_ptr<const Regex> regex)
    : regex_(std::move(regex)), memory_(std::make_unique<Memory>()) {
  memory_->data = pcre2_match_data_create_from_pattern(regex_->code_->code, nullptr);
  memory_->context = pcre2_match_context_create(nullptr);
  memory_->stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr);
  LECTERN_CHECK(memory_->data != nullptr && memory_->context != nullptr);
  pcre2_set_match_limit(memory_->context, kMatchLimit);
  pcre2_set_heap_limit(memory_->context, kHeapLimitKib);
  if (memory_->stack != nullptr) pcre2_jit_stack_assign(memory_->context, nullptr, memory_->stack);
}

RegexMatcher::~RegexMatcher() = default;
RegexMatcher::RegexMatcher(RegexMatcher&&) noexcept = default;

absl::StatusOr<std::optional<Match>> RegexMatcher::Find(std::string_view utf8, size_t from) {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(utf8.data());
  pcre2_code* code = regex_->code_->code;
  int count = 0;
  if (regex_->code_->jit) {
    count = pcre2_jit_match(code, subject, utf8.size(), from, PCRE2_NO_UTF_CHECK, memory_->data,
                            memory_->context);
  }
  if (!regex_->code_->jit || count == PCRE2_ERROR_JIT_STACKLIMIT) {
    count = pcre2_match(code, subject, utf8.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                        memory_->data, memory_->context);
  }
  if (count == PCRE2_ERROR_NOMATCH) return std::optional<Match>();
  if (count < 0) {
    return InvalidArgument(
        reason::kWordTooLong,
        fmt::format(
            "cannot split the text after byte {} into words: {}; this is no running text, put "
            "line breaks into it",
            from, MessageOf(count)),
        {{"offset", std::to_string(from)}});
  }
  const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(memory_->data);
  return std::optional<Match>(Match{ovector[0], ovector[1]});
}

}  // namespace lectern::engine
