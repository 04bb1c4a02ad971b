// Documents -> the token sequences of a generation's contexts, with what storage needs to find
// blocks it already has.
#pragma once

#include <cstdint>
#include <span>
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
// Layout parts of context 0 from this number on hold extracted texts, whichever contexts their
// documents are in: part kTextPartBase + i is the text of document i, stored only where source
// ranges address the text and not the uploaded bytes (PDF).
inline constexpr uint32_t kTextPartBase = uint32_t{1} << 24;

struct ContextPlan {
  ContextLayout layout;
  std::vector<TokenId> tokens;
  std::vector<storage::BlockHash> hashes;  // of all blocks, the partial last one included

  int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
  // The part of `hashes` that full blocks have: what may be shared.
  std::vector<storage::BlockHash> FullBlockHashes() const;
};

struct IngestPlan {
  std::vector<ContextPlan> contexts;
  std::vector<std::pair<uint32_t, std::string>>
      texts;  // document index, extracted text (SourceSpace::kExtractedText only)

  int64_t token_count() const;  // of all contexts
  std::vector<std::vector<storage::BlockHash>> FullBlockHashes() const;
};

// Reads, extracts, lays out and hashes. The same documents give the same plan, so that an
// interrupted ingest can be planned anew; `sizes`, the token counts of the contexts that they were
// laid out in before, see to it whatever the limit is now (PromptLayout::LayOut). Errors: those of
// ExtractText and PromptLayout::LayOut with the document named (metadata `document`), and
// storage's.
absl::StatusOr<IngestPlan> PlanIngest(const storage::Catalog& catalog,
                                      const std::vector<storage::Document>& documents,
                                      std::span<const int64_t> sizes, const PromptLayout& layout,
                                      const PrefixChain& chain);

// What an ingest intent keeps of its plan (storage::IngestIntent::plan): what computes it, and
// where its contexts end.
struct PlanKey {
  std::string fingerprint;     // hex
  std::vector<int64_t> sizes;  // tokens of each context; empty in intents of earlier versions

  std::string Serialize() const;
  static PlanKey Parse(const std::string& text);
};

}  // namespace lectern::engine
