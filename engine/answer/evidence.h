// From observed attention to spans of documents.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/answer/observed_mass.h"
#include "engine/types.h"
#include "storage/catalog.h"

namespace lectern::engine {

// The spans that hold the most mass, best first, at most `limit`. Within a block and document a
// span is the stretch of text around the heaviest token that holds most of the block's mass,
// widened to words; stretches that touch across a block border are one span. Spans never cross
// documents; quotes are read from the stored source and are byte-identical to it. Errors:
// storage's.
absl::StatusOr<std::vector<Evidence>> FindEvidence(const ObservedMass& observed,
                                                   const storage::Catalog& catalog,
                                                   const storage::Generation& generation,
                                                   uint32_t context_index, int limit);

}  // namespace lectern::engine
