// Following an ingest from here: start it, show how far it is, wait for its end.
#pragma once

#include <string>
#include <string_view>

#include "services/cli/client.h"

namespace lectern::services {

// Starts an ingest of `corpus` (a name) and returns when it has ended. Returns the exit code.
int IngestAndWait(Client& client, const std::string& corpus);

// Waits for the operation with that name, showing progress. Returns the exit code.
// `done`: what has been done when it ends well.
int FollowOperation(Client& client, const std::string& name, std::string_view done = "ingested");

}  // namespace lectern::services
