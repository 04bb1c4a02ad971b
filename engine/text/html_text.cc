#include "engine/text/html_text.h"

#include <fmt/format.h>
#include <gumbo.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <csetjmp>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/text/extractor.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

constexpr size_t kArenaMinimum = size_t{16} << 20;
constexpr size_t kArenaBlock = size_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// Gumbo's memory: taken in large blocks, given back at once. Gumbo frees a tree by recursion and
// does not expect an allocation to fail, so a document that asks for too much leaves the parser by
// longjmp (its frames are C and own nothing that the arena does not), and no tree is ever freed
// node by node.
class Arena {
 public:
  // Room for the list of blocks is taken at once: growing it must not throw through C frames.
  explicit Arena(size_t limit) : limit_(limit) { blocks_.reserve(limit / kArenaBlock + 1); }

  void* Allocate(size_t size) {
    size = (size + alignof(std::max_align_t) - 1) & ~(alignof(std::max_align_t) - 1);
    if (size > free_) {
      const size_t block = std::max(size, kArenaBlock);
      if (block > limit_ - used_) std::longjmp(overflow_, 1);
      used_ += block;
      blocks_.emplace_back(static_cast<std::byte*>(std::malloc(block)));
      if (blocks_.back() == nullptr) std::longjmp(overflow_, 1);
      next_ = blocks_.back().get();
      free_ = block;
    }
    void* result = next_;
    next_ += size;
    free_ -= size;
    return result;
  }

  std::jmp_buf& overflow() { return overflow_; }

 private:
  struct Free {
    void operator()(std::byte* block) const { std::free(block); }
  };
  size_t limit_;
  size_t used_ = 0;
  size_t free_ = 0;
  std::byte* next_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> blocks_;
  std::jmp_buf overflow_;
};

void* ArenaAllocate(void* arena, size_t size) { return static_cast<Arena*>(arena)->Allocate(size); }
void ArenaDeallocate(void*, void*) {}

// nullptr: the arena's limit was reached. No object with a destructor lives in this frame.
const GumboOutput* ParseInto(Arena* arena, const char* data, size_t size) {
  if (setjmp(arena->overflow()) != 0) return nullptr;
  GumboOptions options = kGumboDefaultOptions;
  options.allocator = ArenaAllocate;
  options.deallocator = ArenaDeallocate;
  options.userdata = arena;
  options.max_errors = 0;
  return gumbo_parse_with_options(&options, data, size);
}

constexpr std::array kSkipped = {
    GUMBO_TAG_HEAD,     GUMBO_TAG_SCRIPT,   GUMBO_TAG_STYLE,   GUMBO_TAG_TEMPLATE,
    GUMBO_TAG_NOSCRIPT, GUMBO_TAG_NOFRAMES, GUMBO_TAG_IFRAME,  GUMBO_TAG_OBJECT,
    GUMBO_TAG_SVG,      GUMBO_TAG_MATH,     GUMBO_TAG_NOEMBED,
};

constexpr std::array kBlocks = {
    GUMBO_TAG_ADDRESS,  GUMBO_TAG_ARTICLE,    GUMBO_TAG_ASIDE,  GUMBO_TAG_BLOCKQUOTE,
    GUMBO_TAG_BODY,     GUMBO_TAG_CAPTION,    GUMBO_TAG_CENTER, GUMBO_TAG_DD,
    GUMBO_TAG_DETAILS,  GUMBO_TAG_DIV,        GUMBO_TAG_DL,     GUMBO_TAG_DT,
    GUMBO_TAG_FIELDSET, GUMBO_TAG_FIGCAPTION, GUMBO_TAG_FIGURE, GUMBO_TAG_FOOTER,
    GUMBO_TAG_FORM,     GUMBO_TAG_H1,         GUMBO_TAG_H2,     GUMBO_TAG_H3,
    GUMBO_TAG_H4,       GUMBO_TAG_H5,         GUMBO_TAG_H6,     GUMBO_TAG_HEADER,
    GUMBO_TAG_HR,       GUMBO_TAG_LI,         GUMBO_TAG_MAIN,   GUMBO_TAG_NAV,
    GUMBO_TAG_OL,       GUMBO_TAG_P,          GUMBO_TAG_PRE,    GUMBO_TAG_SECTION,
    GUMBO_TAG_SUMMARY,  GUMBO_TAG_TABLE,      GUMBO_TAG_TBODY,  GUMBO_TAG_TFOOT,
    GUMBO_TAG_THEAD,    GUMBO_TAG_TR,         GUMBO_TAG_UL,     GUMBO_TAG_LISTING,
    GUMBO_TAG_XMP,      GUMBO_TAG_OPTION,     GUMBO_TAG_LEGEND, GUMBO_TAG_MENU,
};

template <size_t kSize>
bool Contains(const std::array<GumboTag, kSize>& tags, GumboTag tag) {
  return std::find(tags.begin(), tags.end(), tag) != tags.end();
}

constexpr size_t kMaxEntityBytes = 40;  // the longest name has 31 letters
constexpr int kLookAhead = 24;

// Aligns the decoded text of one text node with its bytes in the file and appends both.
class TextAligner {
 public:
  TextAligner(std::string_view text, std::string_view source, uint64_t source_offset,
              std::string* out, SourceMap::Builder* map)
      : text_(text), source_(source), offset_(source_offset), out_(out), map_(map) {}

  void Run() {
    out_->append(text_);
    while (t_ < text_.size()) {
      if (s_ >= source_.size()) return Rest();
      if (source_[s_] == '&' ? Entity() : Literal()) continue;
      if (!SkipSwallowed()) return Rest();
    }
  }

 private:
  // Bytes that left no text: the newline after <pre>, a tag that has no meaning where it stands.
  bool SkipSwallowed() {
    if (source_[s_] == '\n' || source_[s_] == '\r') {
      ++s_;
      return true;
    }
    if (source_[s_] != '<') return false;
    char quote = '\0';
    for (size_t s = s_ + 1; s < source_.size(); ++s) {
      const char c = source_[s];
      if (quote != '\0') {
        if (c == quote) quote = '\0';
      } else if (c == '"' || c == '\'') {
        quote = c;
      } else if (c == '>') {
        s_ = s + 1;
        return true;
      }
    }
    return false;
  }

  // What looks like a tag is text only if the text has it, too (as inside <xmp>).
  bool IsTag(size_t t, size_t s) const {
    if (source_[s] != '<' || s + 1 >= source_.size()) return false;
    const char next = source_[s + 1];
    const bool opens =
        std::isalpha(static_cast<unsigned char>(next)) || next == '/' || next == '!' || next == '?';
    return opens && text_.substr(t, 2) != source_.substr(s, 2);
  }

  bool Literal() {
    size_t length = 0;
    while (t_ + length < text_.size() && s_ + length < source_.size() &&
           source_[s_ + length] != '&' && source_[s_ + length] != '\r' &&
           text_[t_ + length] == source_[s_ + length] && !IsTag(t_ + length, s_ + length)) {
      ++length;
    }
    if (length > 0) {
      Linear(length);
      return true;
    }
    if (source_[s_] == '\r' && text_[t_] == '\n') {  // CR and CRLF are read as LF
      const bool pair = s_ + 1 < source_.size() && source_[s_ + 1] == '\n';
      Unit(1, pair ? 2 : 1);
      return true;
    }
    return false;
  }

  bool Entity() {
    const size_t limit = std::min(source_.size(), s_ + kMaxEntityBytes);
    size_t name_end = s_ + 1;
    const bool numeric = name_end < limit && source_[name_end] == '#';
    if (numeric) ++name_end;
    while (name_end < limit && std::isalnum(static_cast<unsigned char>(source_[name_end])))
      ++name_end;
    const std::string_view name = source_.substr(s_ + 1, name_end - s_ - 1);
    const bool ampersand = text_[t_] == '&';
    if (ampersand && !numeric && !name.starts_with("amp") && !name.starts_with("AMP")) {
      Linear(1);  // an & that begins no entity
      return true;
    }
    // Without its semicolon an old entity may be a prefix of what looks like its name
    // ("&copy2026"), so every end is tried; the one after which most agrees is right.
    const size_t longest = name_end < limit && source_[name_end] == ';' ? name_end + 1 : name_end;
    Reading best;
    for (size_t end = longest; end > s_ + 2; --end) {
      const Reading reading = Read(end);
      if (reading.agreed > best.agreed) best = reading;
    }
    if (best.agreed < 0 && !ampersand) return false;
    if (best.agreed < 0) {
      Linear(1);
    } else {
      Unit(best.text_end - t_, best.source_end - s_);
    }
    return true;
  }

  // One way to read an entity, and how many bytes after it agree (-1: it cannot be read so).
  struct Reading {
    int agreed = -1;
    size_t text_end = 0;
    size_t source_end = 0;
  };

  // Source [s_, end) as an entity.
  Reading Read(size_t end) const {
    Reading best;
    size_t t = t_;
    // Only names with their semicolon stand for two characters.
    const int most = source_[end - 1] == ';' ? 2 : 1;
    for (int characters = 1; characters <= most && t < text_.size(); ++characters) {
      t += DecodeUtf8(text_, t).length;
      const int agreed = Agreed(t, end);
      if (agreed > best.agreed) best = {agreed, t, end};
    }
    return best;
  }

  int Agreed(size_t t, size_t s) const {
    for (int i = 0; i < kLookAhead; ++i, ++t, ++s) {
      if (s >= source_.size()) return t >= text_.size() ? i : -1;
      // From here on the two may differ by right: another entity, a swallowed tag.
      if (source_[s] == '&' || source_[s] == '<') return i;
      if (t >= text_.size()) return -1;
      if (source_[s] == '\r' && text_[t] == '\n') return i;
      if (text_[t] != source_[s]) return -1;
    }
    return kLookAhead;
  }

  void Linear(size_t length) {
    map_->AddLinear(offset_ + s_, length);
    t_ += length;
    s_ += length;
  }

  void Unit(size_t text_length, size_t source_length) {
    map_->AddUnit(text_length, offset_ + s_, offset_ + s_ + source_length);
    t_ += text_length;
    s_ += source_length;
  }

  // What cannot be aligned maps as a whole: a wide range is true, a wrong one is not.
  void Rest() {
    const size_t s = std::min(s_, source_.size());
    map_->AddUnit(text_.size() - t_, offset_ + s, offset_ + source_.size());
    t_ = text_.size();
  }

  std::string_view text_;
  std::string_view source_;
  uint64_t offset_;
  std::string* out_;
  SourceMap::Builder* map_;
  size_t t_ = 0;
  size_t s_ = 0;
};

// Depth-first over the tree, with a stack of its own; collects text and breaks.
class TreeReader {
 public:
  explicit TreeReader(std::string_view html) : html_(html) {}

  absl::StatusOr<HtmlText> Read(const GumboNode* root) {
    stack_.push_back({root, 0});
    while (!stack_.empty()) {
      auto& [node, next] = stack_.back();
      const GumboVector& children = node->v.element.children;
      if (next >= children.length) {
        if (Contains(kBlocks, node->v.element.tag)) Break("\n\n");
        stack_.pop_back();
        continue;
      }
      const auto* child = static_cast<const GumboNode*>(children.data[next++]);
      if (child->type == GUMBO_NODE_ELEMENT) {
        Enter(child);
      } else {
        Text(*child);
      }
    }
    return HtmlText{std::move(text_), std::move(map_).Build()};
  }

 private:
  struct Frame {
    const GumboNode* node;
    unsigned next;
  };

  void Enter(const GumboNode* node) {
    const GumboTag tag = node->v.element.tag;
    if (Contains(kSkipped, tag)) return;
    if (tag == GUMBO_TAG_BR) Break("\n");
    if (tag == GUMBO_TAG_TD || tag == GUMBO_TAG_TH) Break(" ");
    if (Contains(kBlocks, tag)) Break("\n\n");
    stack_.push_back({node, 0});
  }

  void Text(const GumboNode& node) {
    if (node.type != GUMBO_NODE_TEXT && node.type != GUMBO_NODE_WHITESPACE &&
        node.type != GUMBO_NODE_CDATA) {
      return;
    }
    std::string_view text(node.v.text.text);
    if (text.empty()) return;
    // A character reference of very many digits overflows in the parser: what it leaves is no
    // UTF-8.
    std::string repaired;
    if (FirstInvalidUtf8(text) != std::string_view::npos) {
      repaired = ReplaceInvalidUtf8(text);
      text = repaired;
    }
    const GumboStringPiece& original = node.v.text.original_text;
    std::string_view source(original.data, original.length);
    const bool inside = source.data() >= html_.data() &&
                        source.data() + source.size() <= html_.data() + html_.size();
    if (!inside) source = html_.substr(html_.size());
    const uint64_t offset = source.data() - html_.data();
    TextAligner(text, source, offset, &text_, &map_).Run();
    source_end_ = offset + source.size();
  }

  // A break comes from no byte of its own: an empty range where the last text ended.
  void Break(std::string_view characters) {
    if (text_.empty()) return;
    text_ += characters;
    map_.AddUnit(characters.size(), source_end_, source_end_);
  }

  std::string_view html_;
  std::string text_;
  SourceMap::Builder map_;
  uint64_t source_end_ = 0;
  std::vector<Frame> stack_;
};

// Names whose start tags close an open element of their own kind, or have no content: they do not
// nest by themselves.
bool NestsByItself(std::string_view name) {
  static constexpr std::array<std::string_view, 36> kFlat = {
      "p",     "li",      "dt",       "dd",    "tr",    "td",     "th",    "thead", "tbody",
      "tfoot", "option",  "optgroup", "br",    "hr",    "img",    "input", "meta",  "link",
      "area",  "base",    "col",      "embed", "param", "source", "track", "wbr",   "keygen",
      "frame", "bgsound", "basefont", "image", "rb",    "rt",     "rp",    "rtc",   "colgroup"};
  return std::find(kFlat.begin(), kFlat.end(), name) == kFlat.end();
}

std::string LowerName(std::string_view html, size_t begin) {
  std::string name;
  while (begin + name.size() < html.size() && name.size() < 16 &&
         std::isalnum(static_cast<unsigned char>(html[begin + name.size()]))) {
    name.push_back(
        static_cast<char>(std::tolower(static_cast<unsigned char>(html[begin + name.size()]))));
  }
  return name;
}

// Offset after the end tag of a raw-text element whose content begins at `i`.
size_t SkipRawText(std::string_view html, size_t i, std::string_view name) {
  while ((i = html.find("</", i)) != std::string_view::npos) {
    if (LowerName(html, i + 2) == name) return i + 2;
    i += 2;
  }
  return html.size();
}

// An upper bound of how deeply elements nest, before a parser whose work grows with depth sees
// them.
int MaxDepth(std::string_view html) {
  int depth = 0;
  int max_depth = 0;
  size_t i = 0;
  while ((i = html.find('<', i)) != std::string_view::npos && ++i < html.size()) {
    if (html.substr(i, 3) == "!--") {
      const size_t end = html.find("-->", i + 1);
      i = end == std::string_view::npos ? html.size() : end;
      continue;
    }
    const bool closes = html[i] == '/';
    const std::string name = LowerName(html, i + (closes ? 1 : 0));
    if (name.empty() || !NestsByItself(name)) continue;
    depth = closes ? std::max(0, depth - 1) : depth + 1;
    max_depth = std::max(max_depth, depth);
    if (!closes && (name == "script" || name == "style" || name == "textarea" || name == "title")) {
      i = SkipRawText(html, i, name);
      --depth;
    }
  }
  return max_depth;
}

}  // namespace

absl::StatusOr<HtmlText> ReadHtml(std::string_view html) {
  if (html.size() > kMaxHtmlBytes) {
    return InvalidArgument(
        reason::kDocumentTooLarge,
        fmt::format("the HTML document has {} bytes, the limit is {}; split it, or upload its text",
                    html.size(), kMaxHtmlBytes),
        {{"size", std::to_string(html.size())}, {"limit", std::to_string(kMaxHtmlBytes)}});
  }
  if (const int depth = MaxDepth(html); depth > kMaxHtmlDepth) {
    return InvalidArgument(
        reason::kHtmlTooDeep,
        fmt::format("HTML elements nest {} deep, the limit is {}; upload the page as plain text",
                    depth, kMaxHtmlDepth));
  }
  Arena arena(std::max(kArenaMinimum, std::min(html.size() * kHtmlMemoryPerByte, kMaxHtmlMemory)));
  const size_t begin = html.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  const GumboOutput* parsed = ParseInto(&arena, html.data() + begin, html.size() - begin);
  if (parsed == nullptr) {
    return InvalidArgument(
        reason::kHtmlTooDeep,
        fmt::format(
            "this HTML needs over {} bytes of memory a byte to read: its formatting elements are "
            "never closed; upload the page as plain text",
            kHtmlMemoryPerByte));
  }
  return TreeReader(html).Read(parsed->root);
}

}  // namespace lectern::engine
