// What relays do about attempts that ended badly.
#pragma once

#include <absl/status/status.h>

#include <string_view>

#include "services/gateway/router.h"

namespace lectern::services {

// Attempts beyond the first. Between them the router waits until the worker can be reached, so that
// they are used up only by a worker that can be reached and does not answer.
inline constexpr int kRetryLimit = 12;

// The errand for another attempt, the `count`th one after the first counted from 0.
Errand RetryErrand(Router& router, Errand errand, Again again, int count);

// UNAVAILABLE NOT_OWNER: the answer is from a group that has lost the corpus meanwhile.
absl::Status MovedAway(const Destination& destination);

// Whether a public method ("Corpora/GetCorpus") can be done twice without harm. The others are
// tried again only where the worker has certainly not begun.
bool IsIdempotent(std::string_view method);

}  // namespace lectern::services
