#include "engine/answer/draft.h"

#include <algorithm>
#include <utility>

#include "engine/answer/layout_reader.h"
#include "engine/kv/kv_memory.h"

namespace lectern::engine {
namespace {

// Of the last tokens, so many are compared: where these agree, more would tell little.
constexpr size_t kLongestMatch = 6;
// Among the answer's own tokens one alone tells nothing: attention says nothing of them.
constexpr size_t kLeastOwnMatch = 2;
// Of what a row looked at, and of an answer in all: bound what is read and searched.
constexpr size_t kBlocksPerRow = 4;
constexpr size_t kMostBlocks = 32;
constexpr int32_t kPauseSteps = 8;

// How many tokens before `end` agree with the last ones of `said`.
size_t MatchLength(std::span<const TokenId> tokens, size_t end, std::span<const TokenId> said) {
  const size_t most = std::min({kLongestMatch, end, said.size()});
  size_t length = 0;
  while (length < most && tokens[end - 1 - length] == said[said.size() - 1 - length]) ++length;
  return length;
}

}  // namespace

void DraftLength::NotDrafted() {
  if (pause_ > 0) --pause_;
}

void DraftLength::Drafted(int32_t drafted, int32_t accepted) {
  if (accepted == drafted) {
    length_ = std::min(2 * length_, kLongestDraft);
  } else if (accepted > 0) {
    length_ = accepted + 1;
  } else {
    length_ /= 2;
  }
  if (length_ > 0) return;
  length_ = 1;
  pause_ = kPauseSteps;
}

void DraftPassages::Add(int64_t first_position, std::vector<TokenId> tokens) {
  passages_.push_back({.first_position = first_position, .tokens = std::move(tokens)});
}

bool DraftPassages::AddRead(const ObservedMass& observed, const storage::Catalog& catalog,
                            uint64_t generation_uid, uint32_t context_index) {
  LayoutReader reader(catalog, generation_uid, context_index);
  for (const int32_t block : observed.LastBlocks(kBlocksPerRow)) {
    if (blocks_.size() >= kMostBlocks) break;
    if (!blocks_.insert(block).second) continue;
    const absl::StatusOr<const LayoutPart*> part = reader.PartOf(block);
    if (!part.ok()) return false;
    // And what a guess may take behind the block, as far as the same part has it.
    const int64_t first = block * kBlockTokens;
    const int64_t end = std::min((*part)->end(), first + kBlockTokens + kLongestDraft);
    std::vector<TokenId> tokens;
    for (int64_t position = first; position < end; ++position) {
      tokens.push_back((*part)->at(position).id);
    }
    Add(first, std::move(tokens));
  }
  return true;
}

std::vector<TokenId> DraftPassages::Next(std::span<const TokenId> said, size_t most,
                                         const std::function<float(int64_t position)>& mass) const {
  std::span<const TokenId> best;  // what follows
  size_t longest = 0;
  float heaviest = 0;
  for (const Passage& passage : passages_) {
    for (size_t end = 1; end < passage.tokens.size(); ++end) {
      const size_t length = MatchLength(passage.tokens, end, said);
      if (length == 0 || length < longest || mark_(passage.tokens[end])) continue;
      const int64_t next = passage.first_position + static_cast<int64_t>(end);
      const float weight = mass(next - 1) + mass(next);
      if (length == longest && weight <= heaviest) continue;
      longest = length;
      heaviest = weight;
      best = std::span(passage.tokens).subspan(end);
    }
  }
  for (size_t end = said.size() - 1; end > 0; --end) {  // the latest first
    const size_t length = MatchLength(said, end, said);
    if (length < kLeastOwnMatch || length <= longest || mark_(said[end])) continue;
    longest = length;
    best = said.subspan(end);
  }
  best = best.first(std::min(best.size(), most));
  return {best.begin(), std::find_if(best.begin(), best.end(), mark_)};
}

}  // namespace lectern::engine
