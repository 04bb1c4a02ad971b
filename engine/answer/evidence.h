// From observed attention to spans of documents.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/answer/observed_mass.h"
#include "engine/types.h"
#include "storage/catalog.h"

namespace lectern::engine {

// A stretch of one document in one context.
struct FoundSpan {
  uint32_t context = 0;
  uint32_t document = 0;    // index in the generation
  int64_t token_begin = 0;  // positions in the context
  int64_t token_end = 0;
  double mass = 0;
};

struct FoundSpans {
  std::vector<FoundSpan> spans;
  double mass = 0;  // of all that were found, those beyond the limit included
};

// The spans that hold the most mass, best first, at most `limit`. Within a block and document a
// span is the stretch of text around the heaviest token that holds most of the block's mass,
// widened to words; stretches that touch across a block border are one span. Spans never cross
// documents. Errors: those of LayoutReader.
absl::StatusOr<FoundSpans> FindSpans(const std::map<int32_t, ObservedMass::BlockMass>& blocks,
                                     const storage::Catalog& catalog,
                                     const storage::Generation& generation, uint32_t context_index,
                                     int limit);

// The spans with their sources, byte-identical to what was uploaded; shares are of `found.mass`.
// Errors: storage's.
absl::StatusOr<std::vector<Evidence>> Quote(const FoundSpans& found,
                                            const storage::Catalog& catalog,
                                            const storage::Generation& generation);

}  // namespace lectern::engine
