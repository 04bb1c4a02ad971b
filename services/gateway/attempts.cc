#include "services/gateway/attempts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "engine/error/error.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

// Makers and removers: done twice, they say that it exists already, or no more.
constexpr std::array<std::string_view, 8> kOnce = {
    "Backups/CreateBackup",   "Corpora/CreateCorpus",     "Corpora/IngestCorpus",
    "Corpora/RebuildCorpus",  "Documents/DeleteDocument", "Sessions/CreateSession",
    "Sessions/DeleteSession", "Sessions/ForkSession"};

}  // namespace

Errand RetryErrand(Router& router, Errand errand, Again again, int count) {
  router.CountRetry();
  errand.fresh = again == Again::kElsewhere;
  errand.not_before = std::chrono::steady_clock::now() + Router::PauseBefore(count);
  return errand;
}

absl::Status MovedAway(const Destination& destination) {
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kNotOwner,
      fmt::format("the corpus \"{}\" has left the group {} while it was answering; try again",
                  destination.name.corpus, destination.backend->group),
      {{"group", destination.backend->group}, {"corpus", destination.name.corpus}});
}

bool IsIdempotent(std::string_view method) {
  return std::find(kOnce.begin(), kOnce.end(), method) == kOnce.end();
}

}  // namespace lectern::services
