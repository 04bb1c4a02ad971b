#include "engine/answer/evidence.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "engine/answer/layout_reader.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/ingest/ingest_plan.h"
#include "engine/text/prompt_layout.h"

namespace lectern::engine {
namespace {

// A span keeps this share of the mass that its document has in the block...
constexpr double kSpanMassShare = 0.9;
// ...and this many tokens to either side, so that a quote reads as language.
constexpr int64_t kSpanMarginTokens = 8;

// A stretch of one document within one block.
struct Stretch {
  uint32_t document = 0;
  int64_t token_begin = 0;  // absolute
  int64_t token_end = 0;
  double mass = 0;  // of the document in the block
};

// The shortest stretch around the heaviest of `mass` that holds kSpanMassShare of it, grown
// greedily to the heavier side. Indices into mass.
std::pair<int64_t, int64_t> HeavyStretch(std::span<const float> mass) {
  const int64_t size = static_cast<int64_t>(mass.size());
  const double total = std::accumulate(mass.begin(), mass.end(), 0.0);
  int64_t begin = std::max_element(mass.begin(), mass.end()) - mass.begin();
  int64_t end = begin + 1;
  double held = mass[begin];
  while (held < kSpanMassShare * total && (begin > 0 || end < size)) {
    const bool left = end == size || (begin > 0 && mass[begin - 1] >= mass[end]);
    held += left ? mass[--begin] : mass[end++];
  }
  return {std::max<int64_t>(0, begin - kSpanMarginTokens), std::min(size, end + kSpanMarginTokens)};
}

// Documents' shares of one block.
absl::StatusOr<std::vector<Stretch>> StretchesOf(int32_t block, const ObservedMass::BlockMass& mass,
                                                 LayoutReader* layout) {
  std::vector<Stretch> stretches;
  const int64_t first = block * kBlockTokens;
  LECTERN_ASSIGN_OR_RETURN(const std::vector<TextSpan> spans,
                           layout->Spans(first, first + kBlockTokens));
  const double in_block = std::accumulate(mass.tokens.begin(), mass.tokens.end(), 0.0);
  for (const TextSpan& span : spans) {
    const std::span<const float> tokens(mass.tokens.data() + (span.token_begin - first),
                                        static_cast<size_t>(span.token_end - span.token_begin));
    const double total = std::accumulate(tokens.begin(), tokens.end(), 0.0);
    if (total <= 0) continue;
    const auto [begin, end] = HeavyStretch(tokens);
    stretches.push_back({.document = span.document,
                         .token_begin = span.token_begin + begin,
                         .token_end = span.token_begin + end,
                         .mass = mass.mass * total / in_block});
  }
  return stretches;
}

// What the bytes [begin, end) of a document's source space are: of its upload, or of its extracted
// text.
absl::StatusOr<std::string> ReadSource(const storage::Catalog& catalog,
                                       const storage::Generation& generation,
                                       uint32_t context_index, uint32_t index,
                                       const storage::Document& document, uint64_t begin,
                                       uint64_t end) {
  if (document.media_type == "application/pdf") {
    absl::StatusOr<std::string> text =
        catalog.GetLayoutPart(generation.uid, context_index, kTextPartBase + index);
    if (!text.ok()) return text.status();
    return text->substr(begin, end - begin);
  }
  return catalog.ReadDocument(document, begin, end - begin);
}

}  // namespace

absl::StatusOr<std::vector<Evidence>> FindEvidence(const ObservedMass& observed,
                                                   const storage::Catalog& catalog,
                                                   const storage::Generation& generation,
                                                   uint32_t context_index, int limit) {
  LayoutReader layout(catalog, generation.uid, context_index);
  // Enough of the heaviest blocks that no span is missed by what follows, and no more.
  const std::map<int32_t, ObservedMass::BlockMass> blocks = observed.Blocks();
  std::vector<std::pair<double, int32_t>> heaviest;
  for (const auto& [block, mass] : blocks) heaviest.emplace_back(-mass.mass, block);
  std::sort(heaviest.begin(), heaviest.end());
  heaviest.resize(std::min(heaviest.size(), static_cast<size_t>(limit) * 2 + 8));
  std::sort(heaviest.begin(), heaviest.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });

  std::vector<Stretch> stretches;
  for (const auto& [negative_mass, block] : heaviest) {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<Stretch> found,
                             StretchesOf(block, blocks.at(block), &layout));
    for (const Stretch& stretch : found) {
      if (!stretches.empty() && stretches.back().document == stretch.document &&
          stretches.back().token_end == stretch.token_begin) {
        stretches.back().token_end = stretch.token_end;
        stretches.back().mass += stretch.mass;
      } else {
        stretches.push_back(stretch);
      }
    }
  }
  double all = 0;
  for (const Stretch& stretch : stretches) all += stretch.mass;
  std::stable_sort(stretches.begin(), stretches.end(),
                   [](const Stretch& a, const Stretch& b) { return a.mass > b.mass; });
  stretches.resize(std::min(stretches.size(), static_cast<size_t>(limit)));

  std::vector<Evidence> evidence;
  for (const Stretch& stretch : stretches) {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<TextSpan> spans,
                             layout.Spans(stretch.token_begin, stretch.token_end));
    if (spans.empty()) continue;
    const storage::GenerationDocument& named = generation.documents[stretch.document];
    absl::StatusOr<storage::Document> document = catalog.GetDocumentByUid(named.uid);
    if (!document.ok()) return document.status();
    const uint64_t begin = spans.front().source_begin;
    const uint64_t end = spans.back().source_end;
    LECTERN_ASSIGN_OR_RETURN(
        std::string quote,
        ReadSource(catalog, generation, context_index, stretch.document, *document, begin, end));
    evidence.push_back({.document = named.id,
                        .display_name = named.display_name,
                        .byte_begin = static_cast<int64_t>(begin),
                        .byte_end = static_cast<int64_t>(end),
                        .quote = std::move(quote),
                        .mass = stretch.mass,
                        .share = all > 0 ? stretch.mass / all : 0,
                        .block = stretch.token_begin / kBlockTokens});
  }
  return evidence;
}

}  // namespace lectern::engine
