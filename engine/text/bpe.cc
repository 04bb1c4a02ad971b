#include "engine/text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <queue>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

constexpr TokenId kMaxTokenId = (1 << 24) - 1;
// Up to here trying all pairs beats a heap.
constexpr size_t kShortWordBytes = 48;
constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, 512> byte{};

  Alphabet() {
    byte.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      character[b] = itself ? static_cast<char32_t>(b) : next++;
      byte[character[b]] = b;
    }
  }
};

const Alphabet& ByteAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::string SpellBytes(std::string_view bytes) {
  std::string spelled;
  for (const char byte : bytes)
    AppendUtf8(ByteAlphabet().character[static_cast<uint8_t>(byte)], &spelled);
  return spelled;
}

bool ReadSpelled(std::string_view spelled, std::string* bytes) {
  bytes->clear();
  for (size_t i = 0; i < spelled.size();) {
    const CodePoint point = DecodeUtf8(spelled, i);
    const int byte = point.value < 512 ? ByteAlphabet().byte[point.value] : -1;
    if (byte < 0) return false;
    bytes->push_back(static_cast<char>(byte));
    i += point.length;
  }
  return true;
}

absl::StatusOr<BpeModel> BpeModel::Parse(const nlohmann::json& json) {
  LECTERN_ASSIGN_OR_RETURN(const std::string type, StringField(json, "model", "type"));
  if (type != "BPE") return UnsupportedComponent("model", type);
  LECTERN_ASSIGN_OR_RETURN(const bool byte_fallback,
                           BoolField(json, "model", "byte_fallback", false));
  if (byte_fallback) return UnsupportedSetting("model", "byte_fallback");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (json.contains(affix) && !json.at(affix).is_null() && json.at(affix) != "") {
      return UnsupportedSetting("model", affix);
    }
  }
  if (json.contains("dropout") && !json.at("dropout").is_null() && json.at("dropout") != 0.0) {
    return UnsupportedSetting("model", "dropout (encoding would be random)");
  }
  BpeModel model;
  LECTERN_ASSIGN_OR_RETURN(model.ignore_merges_, BoolField(json, "model", "ignore_merges", false));
  LECTERN_RETURN_IF_ERROR(model.ReadVocabulary(json));
  LECTERN_RETURN_IF_ERROR(model.ReadMerges(json));
  return model;
}

absl::Status BpeModel::ReadVocabulary(const nlohmann::json& json) {
  if (!json.contains("vocab") || !json.at("vocab").is_object())
    return BrokenTokenizer("model.vocab is not an object");
  absl::flat_hash_map<TokenId, std::string_view> by_id;
  byte_ids_.fill(-1);
  std::string bytes;
  for (const auto& [content, value] : json.at("vocab").items()) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
        value.get<int64_t>() > kMaxTokenId) {
      return BrokenTokenizer(
          fmt::format("the id of \"{}\" is not a number from 0 to {}", content, kMaxTokenId));
    }
    const auto id = value.get<TokenId>();
    const auto [other, fresh] = by_id.emplace(id, content);
    if (!fresh) {
      return BrokenTokenizer(fmt::format("\"{}\" and \"{}\" have the same id {}",
                                         std::string(other->second), content, id));
    }
    vocabulary_.emplace(content, id);
    if (!ReadSpelled(content, &bytes)) continue;
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = id;
    if (ignore_merges_) whole_words_.emplace(bytes, id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] < 0) {
      return UnsupportedSetting(
          "model",
          fmt::format("no token for byte 0x{:02x} (some texts could not be encoded)", byte));
    }
  }
  return absl::OkStatus();
}

absl::Status BpeModel::ReadMerges(const nlohmann::json& json) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* merges, ArrayField(json, "model", "merges"));
  uint32_t rank = 0;
  for (const nlohmann::json& merge : *merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      LECTERN_RETURN_IF_ERROR(AddMerge(merge[0].get_ref<const std::string&>(),
                                       merge[1].get_ref<const std::string&>(), rank++));
      continue;
    }
    // The older form: one string, the two parts with a space between them.
    const std::string line = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
      return BrokenTokenizer(fmt::format("merge number {} is not a pair", rank));
    }
    const std::string_view pair = line;
    LECTERN_RETURN_IF_ERROR(AddMerge(pair.substr(0, space), pair.substr(space + 1), rank++));
  }
  return absl::OkStatus();
}

absl::Status BpeModel::AddMerge(std::string_view left, std::string_view right, uint32_t rank) {
  const std::string joined = fmt::format("{}{}", left, right);
  const auto left_id = vocabulary_.find(std::string(left));
  const auto right_id = vocabulary_.find(std::string(right));
  const auto result = vocabulary_.find(joined);
  if (left_id == vocabulary_.end() || right_id == vocabulary_.end() ||
      result == vocabulary_.end()) {
    return BrokenTokenizer(
        fmt::format("merge of \"{}\" and \"{}\": they or \"{}\" are not in the vocabulary", left,
                    right, joined));
  }
  merges_[PairKey(left_id->second, right_id->second)] = {rank, result->second};
  std::string bytes;
  if (ReadSpelled(joined, &bytes)) {
    for (size_t i = 0; i + 1 < bytes.size(); ++i) {
      neighbours_[256 * static_cast<uint8_t>(bytes[i]) + static_cast<uint8_t>(bytes[i + 1])] = true;
    }
  }
  return absl::OkStatus();
}

absl::Status BpeModel::Protect(TokenId id) {
  absl::erase_if(whole_words_, [id](const auto& entry) { return entry.second == id; });
  for (const auto& [pair, merge] : merges_) {
    if (merge.result == id) {
      return BrokenTokenizer(
          fmt::format("a merge makes the special token with id {}: plain text could spell it", id));
    }
  }
  return absl::OkStatus();
}

const BpeModel::Merge* BpeModel::FindMerge(TokenId left, TokenId right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

absl::Status BpeModel::Encode(std::string_view word, std::vector<WordToken>* tokens) const {
  if (ignore_merges_) {
    if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end()) {
      tokens->push_back({whole->second, static_cast<uint32_t>(word.size())});
      return absl::OkStatus();
    }
  }
  size_t begin = 0;
  while (begin < word.size()) {
    size_t end = begin + 1;
    if (word.size() <= kShortWordBytes) {
      end = word.size();
    } else {
      while (end < word.size() && neighbours_[256 * static_cast<uint8_t>(word[end - 1]) +
                                              static_cast<uint8_t>(word[end])]) {
        ++end;
      }
    }
    if (end - begin > kMaxWordBytes) {
      return InvalidArgument(reason::kWordTooLong,
                             fmt::format("the text has a word of over {} bytes: it is no running "
                                         "text, put spaces or line breaks into it",
                                         kMaxWordBytes),
                             {{"limit", std::to_string(kMaxWordBytes)}});
    }
    const std::string_view stretch = word.substr(begin, end - begin);
    stretch.size() <= kShortWordBytes ? EncodeShort(stretch, tokens) : EncodeLong(stretch, tokens);
    begin = end;
  }
  return absl::OkStatus();
}

void BpeModel::EncodeShort(std::string_view word, std::vector<WordToken>* tokens) const {
  std::array<WordToken, kShortWordBytes> symbols;
  std::array<uint32_t, kShortWordBytes> ranks;  // of symbol i with symbol i + 1
  std::array<TokenId, kShortWordBytes> results;
  size_t count = word.size();
  const auto rank_pair = [&](size_t i) {
    const Merge* merge = i + 1 < count ? FindMerge(symbols[i].id, symbols[i + 1].id) : nullptr;
    ranks[i] = merge == nullptr ? kNoRank : merge->rank;
    results[i] = merge == nullptr ? 0 : merge->result;
  };
  for (size_t i = 0; i < count; ++i) symbols[i] = {byte_ids_[static_cast<uint8_t>(word[i])], 1};
  for (size_t i = 0; i < count; ++i) rank_pair(i);
  while (count > 1) {
    const size_t best = std::min_element(ranks.begin(), ranks.begin() + count - 1) - ranks.begin();
    if (ranks[best] == kNoRank) break;
    symbols[best] = {results[best], symbols[best].bytes + symbols[best + 1].bytes};
    std::move(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
    std::move(ranks.begin() + best + 2, ranks.begin() + count, ranks.begin() + best + 1);
    std::move(results.begin() + best + 2, results.begin() + count, results.begin() + best + 1);
    --count;
    rank_pair(best);
    if (best > 0) rank_pair(best - 1);
  }
  tokens->insert(tokens->end(), symbols.begin(), symbols.begin() + count);
}

void BpeModel::EncodeLong(std::string_view word, std::vector<WordToken>* tokens) const {
  struct Symbol {
    TokenId id;  // -1: merged into its left neighbour
    uint32_t previous;
    uint32_t next;
    uint32_t bytes;
  };
  struct Candidate {
    uint32_t rank;
    uint32_t position;  // of the left symbol
    TokenId result;
    // The queue's top is the greatest: the lowest rank, of equals the leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  LECTERN_CHECK(word.size() <= kMaxWordBytes);
  std::vector<Symbol> symbols(word.size());
  std::vector<Candidate> initial;
  for (uint32_t i = 0; i < symbols.size(); ++i) {
    symbols[i] = {byte_ids_[static_cast<uint8_t>(word[i])], i == 0 ? kNone : i - 1,
                  i + 1 == symbols.size() ? kNone : i + 1, 1};
  }
  const auto candidate = [&](uint32_t left) {
    const uint32_t right = symbols[left].next;
    return right == kNone ? nullptr : FindMerge(symbols[left].id, symbols[right].id);
  };
  for (uint32_t i = 0; i < symbols.size(); ++i) {
    if (const Merge* merge = candidate(i)) initial.push_back({merge->rank, i, merge->result});
  }
  std::priority_queue<Candidate> queue({}, std::move(initial));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    // An entry whose pair has changed since is stale.
    if (symbols[top.position].id < 0) continue;
    const Merge* merge = candidate(top.position);
    if (merge == nullptr || merge->rank != top.rank) continue;
    Symbol& left = symbols[top.position];
    Symbol& right = symbols[left.next];
    left.id = top.result;
    left.bytes += right.bytes;
    right.id = -1;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = top.position;
    if (const Merge* after = candidate(top.position))
      queue.push({after->rank, top.position, after->result});
    if (left.previous != kNone) {
      if (const Merge* before = candidate(left.previous))
        queue.push({before->rank, left.previous, before->result});
    }
  }
  for (uint32_t i = 0; i != kNone; i = symbols[i].next)
    tokens->push_back({symbols[i].id, symbols[i].bytes});
}

}  // namespace lectern::engine
