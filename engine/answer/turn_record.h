// A session's turn as storage keeps it: what the user sees of it, and what the next turn needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/types.h"

namespace lectern::engine {

struct TurnRecord {
  Turn turn;
  // Tokens of the context's partial last block after this turn: the prefix chain goes on from them.
  std::vector<int32_t> tail_tokens;

  std::string Serialize() const;
  // DATA_LOSS STORED_BYTES_CORRUPT, FAILED_PRECONDITION STORED_FORMAT_NEWER.
  static absl::StatusOr<TurnRecord> Parse(const std::string& bytes);
};

}  // namespace lectern::engine
