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
absl::StatusOr<std::vector<FoundSpan>> StretchesOf(int32_t block,
                                                   const ObservedMass::BlockMass& mass,
                                                   uint32_t context, LayoutReader* layout) {
  std::vector<FoundSpan> stretches;
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
    stretches.push_back({.context = context,
                         .document = span.document,
                         .token_begin = span.token_begin + begin,
                         .token_end = span.token_begin + end,
                         .mass = mass.mass * total / in_block});
  }
  return stretches;
}

// What the bytes [begin, end) of a document's source space are: of its upload, or of its extracted
// text.
absl::StatusOr<std::string> ReadSource(const storage::Catalog& catalog,
                                       const storage::Generation& generation, uint32_t index,
                                       const storage::Document& document, uint64_t begin,
                                       uint64_t end) {
  if (document.media_type == "application/pdf") {
    absl::StatusOr<std::string> text =
        catalog.GetLayoutPart(generation.uid, /*context=*/0, kTextPartBase + index);
    if (!text.ok()) return text.status();
    return text->substr(begin, end - begin);
  }
  return catalog.ReadDocument(document, begin, end - begin);
}

}  // namespace

absl::StatusOr<FoundSpans> FindSpans(const std::map<int32_t, ObservedMass::BlockMass>& blocks,
                                     const storage::Catalog& catalog,
                                     const storage::Generation& generation, uint32_t context_index,
                                     int limit) {
  LayoutReader layout(catalog, generation.uid, context_index);
  // Enough of the heaviest blocks that no span is missed by what follows, and no more.
  std::vector<std::pair<double, int32_t>> heaviest;
  for (const auto& [block, mass] : blocks) heaviest.emplace_back(-mass.mass, block);
  std::sort(heaviest.begin(), heaviest.end());
  heaviest.resize(std::min(heaviest.size(), static_cast<size_t>(limit) * 2 + 8));
  std::sort(heaviest.begin(), heaviest.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });

  FoundSpans found;
  std::vector<FoundSpan>& spans = found.spans;
  for (const auto& [negative_mass, block] : heaviest) {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<FoundSpan> stretches,
                             StretchesOf(block, blocks.at(block), context_index, &layout));
    for (const FoundSpan& stretch : stretches) {
      if (!spans.empty() && spans.back().document == stretch.document &&
          spans.back().token_end == stretch.token_begin) {
        spans.back().token_end = stretch.token_end;
        spans.back().mass += stretch.mass;
      } else {
        spans.push_back(stretch);
      }
    }
  }
  for (const FoundSpan& span : spans) found.mass += span.mass;
  std::stable_sort(spans.begin(), spans.end(),
                   [](const FoundSpan& a, const FoundSpan& b) { return a.mass > b.mass; });
  spans.resize(std::min(spans.size(), static_cast<size_t>(limit)));
  return found;
}

absl::StatusOr<std::vector<Evidence>> Quote(const FoundSpans& found,
                                            const storage::Catalog& catalog,
                                            const storage::Generation& generation) {
  std::map<uint32_t, LayoutReader> layouts;
  std::vector<Evidence> evidence;
  for (const FoundSpan& span : found.spans) {
    LayoutReader& layout =
        layouts.try_emplace(span.context, catalog, generation.uid, span.context).first->second;
    LECTERN_ASSIGN_OR_RETURN(const std::vector<TextSpan> texts,
                             layout.Spans(span.token_begin, span.token_end));
    if (texts.empty()) continue;
    const storage::GenerationDocument& named = generation.documents[span.document];
    absl::StatusOr<storage::Document> document = catalog.GetDocumentByUid(named.uid);
    if (!document.ok()) return document.status();
    const uint64_t begin = texts.front().source_begin;
    const uint64_t end = texts.back().source_end;
    LECTERN_ASSIGN_OR_RETURN(std::string quote,
                             ReadSource(catalog, generation, span.document, *document, begin, end));
    evidence.push_back({.document = named.id,
                        .display_name = named.display_name,
                        .byte_begin = static_cast<int64_t>(begin),
                        .byte_end = static_cast<int64_t>(end),
                        .quote = std::move(quote),
                        .mass = span.mass,
                        .share = found.mass > 0 ? span.mass / found.mass : 0,
                        .context = static_cast<int>(span.context),
                        .block = span.token_begin / kBlockTokens});
  }
  return evidence;
}

}  // namespace lectern::engine
