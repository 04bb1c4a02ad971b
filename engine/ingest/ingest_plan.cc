#include "engine/ingest/ingest_plan.h"

#include <fmt/format.h>

#include <sstream>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/kv/kv_memory.h"
#include "engine/text/extractor.h"

namespace lectern::engine {

std::vector<storage::BlockHash> ContextPlan::FullBlockHashes() const {
  const size_t full = tokens.size() / static_cast<size_t>(kBlockTokens);
  return {hashes.begin(), hashes.begin() + static_cast<int64_t>(full)};
}

int64_t IngestPlan::token_count() const {
  int64_t tokens = 0;
  for (const ContextPlan& context : contexts) tokens += context.token_count();
  return tokens;
}

std::vector<std::vector<storage::BlockHash>> IngestPlan::FullBlockHashes() const {
  std::vector<std::vector<storage::BlockHash>> hashes;
  for (const ContextPlan& context : contexts) hashes.push_back(context.FullBlockHashes());
  return hashes;
}

std::string PlanKey::Serialize() const {
  std::string text = fingerprint;
  for (const int64_t size : sizes) text += fmt::format(" {}", size);
  return text;
}

PlanKey PlanKey::Parse(const std::string& text) {
  std::istringstream words(text);
  PlanKey key;
  words >> key.fingerprint;
  for (int64_t size = 0; words >> size;) key.sizes.push_back(size);
  return key;
}

absl::StatusOr<IngestPlan> PlanIngest(const storage::Catalog& catalog,
                                      const std::vector<storage::Document>& documents,
                                      std::span<const int64_t> sizes, const PromptLayout& layout,
                                      const PrefixChain& chain) {
  IngestPlan plan;
  std::vector<ExtractedText> texts;
  std::vector<LayoutDocument> laid_out;
  texts.reserve(documents.size());
  for (const storage::Document& document : documents) {
    absl::StatusOr<std::string> bytes = catalog.ReadDocument(document, 0, document.byte_length);
    if (!bytes.ok()) return bytes.status();
    absl::StatusOr<ExtractedText> text =
        ExtractText(*bytes, {.media_type = document.media_type, .name = document.display_name});
    if (!text.ok()) {
      ErrorMetadata metadata = MetadataOf(text.status());
      metadata["document"] = document.id;
      return Error(text.status().code(), ReasonOf(text.status()),
                   fmt::format("document {}: {}", document.id,
                               std::string_view(text.status().message().data(),
                                                text.status().message().size())),
                   metadata);
    }
    if (text->space == SourceSpace::kExtractedText) {
      plan.texts.emplace_back(static_cast<uint32_t>(texts.size()), text->text);
    }
    texts.push_back(*std::move(text));
  }
  for (size_t i = 0; i < documents.size(); ++i) {
    laid_out.push_back(
        {.title = documents[i].display_name, .text = texts[i].text, .map = &texts[i].map});
  }
  LECTERN_ASSIGN_OR_RETURN(std::vector<ContextLayout> contexts, layout.LayOut(laid_out, sizes));
  for (ContextLayout& context : contexts) {
    ContextPlan& planned = plan.contexts.emplace_back();
    planned.layout = std::move(context);
    planned.tokens = planned.layout.Ids();
    planned.hashes = chain.Blocks(planned.tokens);
  }
  return plan;
}

}  // namespace lectern::engine
