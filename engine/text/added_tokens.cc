#include "engine/text/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

bool IsBlank(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)); }

// \w of Unicode's regular expressions (UTS 18, annex C).
bool IsWordCharacter(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  return u_hasBinaryProperty(point, UCHAR_ALPHABETIC) ||
         u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(point) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

// Start of the character that ends at `end` > 0.
size_t CharacterBefore(std::string_view utf8, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && IsUtf8Continuation(utf8[begin])) --begin;
  return begin;
}

bool StandsAlone(std::string_view utf8, size_t begin, size_t end) {
  if (begin > 0 && IsWordCharacter(DecodeUtf8(utf8, CharacterBefore(utf8, begin)).value))
    return false;
  return end == utf8.size() || !IsWordCharacter(DecodeUtf8(utf8, end).value);
}

}  // namespace

void AddedTokenFinder::Add(AddedToken token) {
  if (token.content.empty()) return;
  uint32_t node = 0;
  for (const char c : token.content) {
    const uint64_t key = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(c);
    const auto [child, fresh] = children_.emplace(key, ends_.size());
    node = child->second;
    if (fresh) ends_.push_back(0);
  }
  first_bytes_[static_cast<uint8_t>(token.content[0])] = true;
  tokens_.push_back(std::move(token));
  ends_[node] = static_cast<uint32_t>(tokens_.size());
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view utf8, size_t begin) const {
  const AddedToken* longest = nullptr;
  uint32_t node = 0;
  for (size_t i = begin; i < utf8.size(); ++i) {
    const auto child =
        children_.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(utf8[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (ends_[node] > 0) longest = &tokens_[ends_[node] - 1];
  }
  return longest;
}

std::vector<AddedTokenFinder::Piece> AddedTokenFinder::Split(std::string_view utf8,
                                                             bool parse_special) const {
  std::vector<Piece> pieces;
  size_t done = 0;
  size_t i = 0;
  while (i < utf8.size()) {
    const AddedToken* token =
        first_bytes_[static_cast<uint8_t>(utf8[i])] ? LongestAt(utf8, i) : nullptr;
    if (token == nullptr) {
      ++i;
      continue;
    }
    size_t begin = i;
    size_t end = i + token->content.size();
    // A passed-over occurrence still uses up its bytes: what overlaps it is not looked for.
    i = end;
    if (token->special && !parse_special) continue;
    if (token->single_word && !StandsAlone(utf8, begin, end)) continue;
    while (token->lstrip && begin > done) {
      const size_t before = CharacterBefore(utf8, begin);
      if (!IsBlank(DecodeUtf8(utf8, before).value)) break;
      begin = before;
    }
    while (token->rstrip && end < utf8.size()) {
      const CodePoint after = DecodeUtf8(utf8, end);
      if (!IsBlank(after.value)) break;
      end += after.length;
    }
    begin = std::max(begin, done);
    if (begin > done) pieces.push_back({done, begin, nullptr});
    pieces.push_back({begin, end, token});
    done = end;
    i = std::max(i, end);
  }
  if (done < utf8.size()) pieces.push_back({done, utf8.size(), nullptr});
  return pieces;
}

}  // namespace lectern::engine
