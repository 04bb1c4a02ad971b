// From "ready" to the exit: what every server process does the same way.
#pragma once

#include <absl/status/status.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "services/telemetry/levels.h"
#include "services/telemetry/log.h"

namespace lectern::services {

// The steps of a drain, in this order.
struct DrainSteps {
  std::function<void()> refuse;  // health says NOT_SERVING; new calls are refused
  // Whether all calls have ended; waits until the time given at most.
  std::function<bool(std::chrono::steady_clock::time_point)> wait_idle;
  std::function<void()> stop;  // cancels what is left and closes
};

// Prints the ready line, waits for SIGTERM or SIGINT, and drains for at most `drain`; a second
// signal cuts that short. Returns when everything has stopped.
void RunUntilTerminated(std::string_view program, const std::vector<LogField>& ready,
                        std::chrono::milliseconds drain, const DrainSteps& steps);

// Whether that drain has begun.
bool IsDraining();
// What every server process tells of itself: lectern_draining.
void AddServerLevels(Levels& levels);

// "lectern serve: <message>" on stderr; returns the exit code of a failed start.
int ReportFailedStart(std::string_view program, const absl::Status& status);

}  // namespace lectern::services
