// What a question is asked of: the corpus argument, or one of its generations or sessions; and how
// closely it is read.
#pragma once

#include <absl/flags/declare.h>
#include <absl/flags/flag.h>

#include <string>

#include "services/cli/client.h"

ABSL_DECLARE_FLAG(std::string, session);
ABSL_DECLARE_FLAG(std::string, generation);
ABSL_DECLARE_FLAG(double, adaptive);
ABSL_DECLARE_FLAG(bool, batch);
ABSL_DECLARE_FLAG(int32_t, context);

namespace lectern::services {

// Fills the target of an AskRequest or RetrieveRequest from `corpus` and the flags.
template <typename Request>
void SetTarget(const std::string& corpus, Request& request) {
  const std::string session = absl::GetFlag(FLAGS_session);
  const std::string generation = absl::GetFlag(FLAGS_generation);
  if (!session.empty()) {
    request.set_session(ResourceArgument(session, Collection::kSessions, corpus));
  } else if (!generation.empty()) {
    request.set_generation(ResourceArgument(generation, Collection::kGenerations, corpus));
  } else {
    request.set_corpus(CorpusArgument(corpus));
  }
}

// --adaptive, if it was given.
template <typename Request>
void SetAdaptiveCoverage(Request& request) {
  if (const double adaptive = absl::GetFlag(FLAGS_adaptive); adaptive >= 0)
    request.set_adaptive_coverage(adaptive);
}

// --batch.
template <typename Request>
void SetPriority(Request& request) {
  if (absl::GetFlag(FLAGS_batch)) request.set_priority(v1::BATCH);
}

}  // namespace lectern::services
