#include <array>
#include <cstdint>

#include "engine/text/extractor.h"

namespace lectern::engine {
namespace {

enum class Kind : uint8_t {
  kKept,     // stays as it is
  kBlank,    // space, TAB, VT
  kNewline,  // LF, CR, FF
  kDropped,  // other control characters
  kLeadC2,   // first byte of U+0080-00BF: the second byte tells
};

constexpr std::array<Kind, 256> MakeKinds() {
  std::array<Kind, 256> kinds{};
  for (int i = 0; i < 256; ++i) kinds[i] = i < 0x20 || i == 0x7f ? Kind::kDropped : Kind::kKept;
  kinds[' '] = kinds['\t'] = kinds['\v'] = Kind::kBlank;
  kinds['\n'] = kinds['\r'] = kinds['\f'] = Kind::kNewline;
  kinds[0xc2] = Kind::kLeadC2;
  return kinds;
}

constexpr std::array<Kind, 256> kKinds = MakeKinds();
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// The character at `i`: what it is and how many bytes it has as far as reflowing is concerned.
struct Classified {
  Kind kind;
  size_t length;
};

Classified Classify(std::string_view text, size_t i) {
  const Kind kind = kKinds[static_cast<uint8_t>(text[i])];
  if (kind != Kind::kLeadC2) return {kind, 1};
  const uint8_t second = i + 1 < text.size() ? static_cast<uint8_t>(text[i + 1]) : 0;
  if (second >= 0x80 && second <= 0x9f) return {Kind::kDropped, 2};
  if (second == 0xa0) return {Kind::kBlank, 2};
  return {Kind::kKept, 2};
}

bool IsKept(char byte) { return kKinds[static_cast<uint8_t>(byte)] == Kind::kKept; }

// End of the stretch that begins at `i` and stays as it is: kept bytes, and single spaces between
// them.
size_t EndOfPlainStretch(std::string_view text, size_t i) {
  while (i < text.size()) {
    if (IsKept(text[i])) {
      ++i;
    } else if (text[i] == ' ' && i + 1 < text.size() && IsKept(text[i + 1])) {
      i += 2;
    } else {
      break;
    }
  }
  return i;
}

// A run of whitespace (with the control characters inside it) from `begin`.
struct Run {
  size_t end = 0;  // after the last character looked at
  size_t whitespace_begin = 0;
  size_t whitespace_end = 0;  // equal to whitespace_begin: control characters only
  int newlines = 0;
};

Run ReadRun(std::string_view text, size_t begin) {
  Run run{begin, begin, begin, 0};
  bool any = false;
  bool after_cr =
      false;  // also with dropped characters in between: they are as if they were not there
  while (run.end < text.size()) {
    const Classified c = Classify(text, run.end);
    if (c.kind == Kind::kKept) break;
    if (c.kind != Kind::kDropped) {
      if (!any) run.whitespace_begin = run.end;
      any = true;
      const bool second_half = after_cr && text[run.end] == '\n';
      if (c.kind == Kind::kNewline && !second_half) ++run.newlines;
      after_cr = text[run.end] == '\r';
      run.whitespace_end = run.end + c.length;
    }
    run.end += c.length;
  }
  if (!any) run.whitespace_begin = run.whitespace_end = run.end;
  return run;
}

}  // namespace

ReflowedText Reflow(std::string_view utf8) {
  ReflowedText out;
  out.text.reserve(utf8.size());
  SourceMap::Builder map;
  size_t i = utf8.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  while (i < utf8.size()) {
    size_t end = EndOfPlainStretch(utf8, i);
    // A kept character that begins with 0xC2 needs a look of its own.
    if (end < utf8.size() && Classify(utf8, end).kind == Kind::kKept) end += 2;
    // The document must not begin with a space that a stretch took along.
    const size_t begin = out.text.empty() && end > i && utf8[i] == ' ' ? i + 1 : i;
    if (end > begin) {
      out.text.append(utf8, begin, end - begin);
      map.AddLinear(begin, end - begin);
    }
    if (end > i) {
      i = end;
      continue;
    }
    const Run run = ReadRun(utf8, i);
    const bool inner = !out.text.empty() && run.end < utf8.size();
    if (inner && run.whitespace_end > run.whitespace_begin) {
      out.text.push_back(run.newlines >= 2 ? '\n' : ' ');
      map.AddUnit(1, run.whitespace_begin, run.whitespace_end);
    }
    i = run.end;
  }
  out.map = std::move(map).Build();
  return out;
}

}  // namespace lectern::engine
