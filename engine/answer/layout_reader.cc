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

}  // namespace lectern::engine
