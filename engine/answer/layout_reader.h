// The stored layout of one context, as far as somebody asks for it, and what it says of the
// context.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/prompt_layout.h"
#include "engine/types.h"
#include "storage/catalog.h"

namespace lectern::engine {

// Parts are read when first needed and kept as long as the reader lives: let it live shortly. Not
// thread-safe. Errors: storage's, and those of LayoutPart::Parse.
class LayoutReader {
 public:
  LayoutReader(const storage::Catalog& catalog, uint64_t generation_uid, uint32_t context)
      : catalog_(catalog), generation_uid_(generation_uid), context_(context) {}

  // The text of the tokens at [token_begin, token_end), as LayoutPart::Spans.
  absl::StatusOr<std::vector<TextSpan>> Spans(int64_t token_begin, int64_t token_end);

  // The part that holds `block`; valid as long as the reader.
  absl::StatusOr<const LayoutPart*> PartOf(int64_t block);

 private:
  const storage::Catalog& catalog_;
  const uint64_t generation_uid_;
  const uint32_t context_;
  std::map<uint32_t, LayoutPart> parts_;
};

// Of generation.contexts[context]. Reads the layout's first and last part if there are several
// contexts. Errors: those of LayoutReader.
absl::StatusOr<ContextInfo> DescribeContext(const storage::Catalog& catalog,
                                            const storage::Generation& generation,
                                            uint32_t context);

}  // namespace lectern::engine
