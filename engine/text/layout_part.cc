// The stored form of a stretch of a context's tokens.
//
//   version byte; varint first position; varint number of tokens; then for each token
//     varint id
//     varint head = text length * 16 + role change * 8 + source is the text's image * 4 + text
//     jumps * 2 + source jumps role change: varint role, varint document - previous document
//     (documents only grow) text jumps:  signed varint text_begin - previous text_end source jumps:
//     signed varint source_begin - previous source_end not the image: varint source length (the
//     image has the text's length)
// A text that is plain ASCII without runs of blanks takes two or three bytes a token.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/text/prompt_layout.h"
#include "engine/text/varint.h"

namespace lectern::engine {
namespace {

constexpr uint8_t kFormatVersion = 1;
constexpr uint64_t kRoleChange = 8;
constexpr uint64_t kSourceIsImage = 4;
constexpr uint64_t kTextJump = 2;
constexpr uint64_t kSourceJump = 1;
constexpr uint64_t kMaxSource = uint64_t{1} << 60;

absl::Status Corrupt(std::string_view what) {
  return Error(absl::StatusCode::kDataLoss, reason::kStoredBytesCorrupt,
               fmt::format("stored prompt layout is corrupt: {}; ingest the corpus again", what));
}

void Append(const LayoutToken& token, const LayoutToken& previous, std::string* out) {
  const uint64_t text_length = token.text_end - token.text_begin;
  const uint64_t source_length = token.source_end - token.source_begin;
  const bool role_change = token.role != previous.role || token.document != previous.document;
  const bool image = text_length == source_length;
  const int64_t text_jump =
      static_cast<int64_t>(token.text_begin) - static_cast<int64_t>(previous.text_end);
  const auto source_jump = static_cast<int64_t>(token.source_begin - previous.source_end);
  AppendVarint(static_cast<uint32_t>(token.id), out);
  AppendVarint(text_length << 4 | (role_change ? kRoleChange : 0) | (image ? kSourceIsImage : 0) |
                   (text_jump != 0 ? kTextJump : 0) | (source_jump != 0 ? kSourceJump : 0),
               out);
  if (role_change) {
    AppendVarint(static_cast<uint64_t>(token.role), out);
    AppendVarint(token.document - previous.document, out);
  }
  if (text_jump != 0) AppendVarint(ZigZag(text_jump), out);
  if (source_jump != 0) AppendVarint(ZigZag(source_jump), out);
  if (!image) AppendVarint(source_length, out);
}

// False: not a token of this format.
bool Read(VarintReader* reader, const LayoutToken& previous, LayoutToken* token) {
  constexpr uint64_t kMaxText = std::numeric_limits<uint32_t>::max();
  uint64_t id = 0;
  uint64_t head = 0;
  if (!reader->Read(&id) || id > static_cast<uint64_t>(std::numeric_limits<TokenId>::max()) ||
      !reader->Read(&head)) {
    return false;
  }
  token->id = static_cast<TokenId>(id);
  token->role = previous.role;
  uint64_t document = previous.document;
  if ((head & kRoleChange) != 0) {
    uint64_t role = 0;
    uint64_t step = 0;
    if (!reader->Read(&role) || role > static_cast<uint64_t>(TokenRole::kText) ||
        !reader->Read(&step) || step > kMaxText) {
      return false;
    }
    token->role = static_cast<TokenRole>(role);
    document += step;
  }
  int64_t text_jump = 0;
  int64_t source_jump = 0;
  if ((head & kTextJump) != 0 && !reader->ReadSigned(&text_jump)) return false;
  if ((head & kSourceJump) != 0 && !reader->ReadSigned(&source_jump)) return false;
  const uint64_t text_length = head >> 4;
  uint64_t source_length = text_length;
  if ((head & kSourceIsImage) == 0 && !reader->Read(&source_length)) return false;
  // Wrapped sums are out of range, too.
  const uint64_t text_begin = previous.text_end + static_cast<uint64_t>(text_jump);
  const uint64_t source_begin = previous.source_end + static_cast<uint64_t>(source_jump);
  if (document > kMaxText || text_begin > kMaxText || text_length > kMaxText ||
      text_begin + text_length > kMaxText || source_begin > kMaxSource ||
      source_length > kMaxSource) {
    return false;
  }
  token->document = static_cast<uint32_t>(document);
  token->text_begin = static_cast<uint32_t>(text_begin);
  token->text_end = static_cast<uint32_t>(text_begin + text_length);
  token->source_begin = source_begin;
  token->source_end = source_begin + source_length;
  return true;
}

}  // namespace

std::vector<TextSpan> LayoutPart::Spans(int64_t begin, int64_t end) const {
  std::vector<TextSpan> spans;
  begin = std::max(begin, this->begin());
  end = std::min(end, this->end());
  for (int64_t position = begin; position < end; ++position) {
    const LayoutToken& token = at(position);
    if (token.role != TokenRole::kText) continue;
    const bool joins = !spans.empty() && spans.back().document == token.document;
    if (!joins) {
      spans.push_back({token.document, position, position + 1, token.text_begin, token.text_end,
                       token.source_begin, token.source_end});
      continue;
    }
    TextSpan& span = spans.back();
    span.token_end = position + 1;
    span.text_end = std::max(span.text_end, token.text_end);
    span.source_begin = std::min(span.source_begin, token.source_begin);
    span.source_end = std::max(span.source_end, token.source_end);
  }
  return spans;
}

std::vector<TextSpan> JoinSpans(std::span<const TextSpan> spans) {
  std::vector<TextSpan> joined;
  for (const TextSpan& span : spans) {
    const bool touches = !joined.empty() && joined.back().document == span.document &&
                         joined.back().token_end == span.token_begin;
    if (!touches) {
      joined.push_back(span);
      continue;
    }
    TextSpan& last = joined.back();
    last.token_end = span.token_end;
    last.text_end = std::max(last.text_end, span.text_end);
    last.source_begin = std::min(last.source_begin, span.source_begin);
    last.source_end = std::max(last.source_end, span.source_end);
  }
  return joined;
}

std::string LayoutPart::Serialize() const {
  std::string out(1, static_cast<char>(kFormatVersion));
  AppendVarint(static_cast<uint64_t>(first_position_), &out);
  AppendVarint(tokens_.size(), &out);
  LayoutToken previous;
  for (const LayoutToken& token : tokens_) {
    Append(token, previous, &out);
    previous = token;
  }
  return out;
}

absl::StatusOr<LayoutPart> LayoutPart::Parse(std::string_view bytes) {
  if (bytes.empty()) return Corrupt("no bytes");
  const auto version = static_cast<uint8_t>(bytes[0]);
  if (version > kFormatVersion) {
    return Error(absl::StatusCode::kFailedPrecondition, reason::kStoredFormatNewer,
                 fmt::format("stored prompt layout has format {}, this program reads up to {}; "
                             "start the newer version of "
                             "Lectern on this data directory",
                             version, kFormatVersion));
  }
  if (version == 0) return Corrupt("format 0");
  VarintReader reader(bytes, 1);
  uint64_t first = 0;
  uint64_t count = 0;
  // A token takes two bytes at least: a count that the bytes cannot hold reserves nothing.
  if (!reader.Read(&first) || first > kMaxSource || !reader.Read(&count) ||
      count > bytes.size() / 2) {
    return Corrupt("its counts");
  }
  std::vector<LayoutToken> tokens(count);
  LayoutToken previous;
  for (LayoutToken& token : tokens) {
    if (!Read(&reader, previous, &token)) return Corrupt("a token");
    previous = token;
  }
  if (!reader.done()) return Corrupt("bytes after the last token");
  return LayoutPart(static_cast<int64_t>(first), std::move(tokens));
}

}  // namespace lectern::engine
