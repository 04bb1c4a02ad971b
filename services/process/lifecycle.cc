#include "services/process/lifecycle.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "engine/error/error.h"
#include "services/process/signals.h"

namespace lectern::services {
namespace {

constexpr int kFailedStart = 1;
// How soon a second signal is noticed.
constexpr std::chrono::milliseconds kSignalPoll{50};

std::atomic<bool> draining = false;

// Whether all calls ended before `end` and before a second signal.
bool Drain(const DrainSteps& steps, std::chrono::steady_clock::time_point end) {
  while (true) {
    const auto now = std::chrono::steady_clock::now();
    if (steps.wait_idle(std::min(end, now + kSignalPoll))) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    if (WaitForTerminationSignal(std::chrono::milliseconds{0}) != 0) return false;
  }
}

}  // namespace

void RunUntilTerminated(std::string_view program, const std::vector<LogField>& ready,
                        std::chrono::milliseconds drain, const DrainSteps& steps) {
  std::printf("%s\n", fmt::format("{} ready{}", program, FormatFields(ready)).c_str());
  std::fflush(stdout);

  const int signal = WaitForTerminationSignal();
  Log(LogLevel::kInfo, "draining", {{"signal", signal}, {"limit_ms", int64_t{drain.count()}}});
  const auto start = std::chrono::steady_clock::now();
  draining = true;
  steps.refuse();
  const bool idle = Drain(steps, start + drain);
  steps.stop();
  Log(LogLevel::kInfo, "stopped",
      {{"all_calls_finished", idle},
       {"duration_ms",
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count()}});
}

bool IsDraining() { return draining; }

void AddServerLevels(Levels& levels) {
  levels.Add("lectern_draining", "1 from the first SIGTERM on.",
             [] { return IsDraining() ? 1.0 : 0.0; });
}

int ReportFailedStart(std::string_view program, const absl::Status& status) {
  const std::string reason = engine::ReasonOf(status);
  const absl::string_view message = status.message();
  std::string line =
      fmt::format("{}: {}", program, std::string_view(message.data(), message.size()));
  if (!reason.empty()) line += fmt::format(" [{}]", reason);
  // One line, whatever the message holds.
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "%s\n", line.c_str());
  return kFailedStart;
}

}  // namespace lectern::services
