// Documents -> the token sequence of a generation's context, with what storage needs to find blocks
// it already has.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kv/prefix_chain.h"
#include "engine/text/prompt_layout.h"
#include "storage/catalog.h"

namespace lectern::engine {

// Blocks that one layout part describes: evidence reads one part of about 32 KiB per hit.
inline constexpr int64_t kLayoutPartBlocks = 64;
// Layout parts from this number on hold extracted texts: part kTextPartBase + i is the text of
// document i, stored only where source ranges address the text and not the uploaded bytes (PDF).
inline constexpr uint32_t kTextPartBase = uint32_t{1} << 24;

struct IngestPlan {
  ContextLayout layout;
  std::vector<TokenId> tokens;
  std::vector<storage::BlockHash> hashes;  // of all blocks, the partial last one included
  std::vector<std::pair<uint32_t, std::string>>
      texts;  // document index, extracted text (SourceSpace::kExtractedText only)

  int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
  // The part of `hashes` that full blocks have: what may be shared.
  std::vector<storage::BlockHash> FullBlockHashes() const;
};

// Reads, extracts, lays out and hashes. The same documents give the same plan, so that an
// interrupted ingest can be planned anew. Errors: those of ExtractText and PromptLayout::LayOut
// with the document named (metadata `document`), and storage's.
absl::StatusOr<IngestPlan> PlanIngest(const storage::Catalog& catalog,
                                      const std::vector<storage::Document>& documents,
                                      const PromptLayout& layout, const PrefixChain& chain);

}  // namespace lectern::engine
