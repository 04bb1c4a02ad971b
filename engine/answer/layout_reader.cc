#include "engine/answer/layout_reader.h"

#include <string>
#include <utility>

#include "engine/error/status_macros.h"
#include "engine/ingest/ingest_plan.h"
#include "engine/kv/kv_memory.h"

namespace lectern::engine {

absl::StatusOr<const LayoutPart*> LayoutReader::PartOf(int64_t block) {
  const uint32_t number = static_cast<uint32_t>(block / kLayoutPartBlocks);
  auto it = parts_.find(number);
  if (it == parts_.end()) {
    absl::StatusOr<std::string> bytes = catalog_.GetLayoutPart(generation_uid_, context_, number);
    if (!bytes.ok()) return bytes.status();
    LECTERN_ASSIGN_OR_RETURN(LayoutPart part, LayoutPart::Parse(*bytes));
    it = parts_.emplace(number, std::move(part)).first;
  }
  return &it->second;
}

absl::StatusOr<std::vector<TextSpan>> LayoutReader::Spans(int64_t token_begin, int64_t token_end) {
  std::vector<TextSpan> spans;
  const int64_t part_tokens = kLayoutPartBlocks * kBlockTokens;
  for (int64_t part = token_begin / part_tokens; part * part_tokens < token_end; ++part) {
    LECTERN_ASSIGN_OR_RETURN(const LayoutPart* layout, PartOf(part * kLayoutPartBlocks));
    const std::vector<TextSpan> found = layout->Spans(token_begin, token_end);
    spans.insert(spans.end(), found.begin(), found.end());
  }
  return JoinSpans(spans);
}

absl::StatusOr<ContextInfo> DescribeContext(const storage::Catalog& catalog,
                                            const storage::Generation& generation,
                                            uint32_t context) {
  const auto tokens = static_cast<int64_t>(generation.contexts[context].token_count);
  ContextInfo info = {.index = static_cast<int>(context),
                      .count = static_cast<int>(generation.contexts.size()),
                      .token_count = tokens};
  if (generation.documents.empty()) return info;
  uint32_t first = 0;
  auto last = static_cast<uint32_t>(generation.documents.size() - 1);
  if (generation.contexts.size() > 1) {
    LayoutReader layout(catalog, generation.uid, context);
    LECTERN_ASSIGN_OR_RETURN(const LayoutPart* begin, layout.PartOf(0));
    LECTERN_ASSIGN_OR_RETURN(const LayoutPart* end, layout.PartOf((tokens - 1) / kBlockTokens));
    // The mark at the beginning is of no document.
    if (begin->tokens().size() > 1) first = begin->tokens()[1].document;
    if (!end->tokens().empty()) last = end->tokens().back().document;
    if (last < first || last >= generation.documents.size()) {
      return absl::DataLossError("a layout names documents that its generation does not have");
    }
  }
  info.document_count = int64_t{last} - first + 1;
  info.first_document = generation.documents[first].id;
  info.last_document = generation.documents[last].id;
  return info;
}

}  // namespace lectern::engine
