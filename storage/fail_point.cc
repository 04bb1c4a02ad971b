#include "storage/fail_point.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

#include <fmt/format.h>

namespace lectern::storage {
namespace {

constexpr FailPointInfo kTable[] = {
#define LECTERN_FAIL_POINT_ROW(enumerator, name, can_fail) {FailPoint::enumerator, name, can_fail},
    LECTERN_FAIL_POINT_TABLE(LECTERN_FAIL_POINT_ROW)
#undef LECTERN_FAIL_POINT_ROW
};
constexpr size_t kPoints = std::size(kTable);

struct Action {
  enum class Kind { kNone, kKill, kError, kSleep } kind = Kind::kNone;
  uint64_t at = 1;  // how many times more the place is to be reached
  bool stays = false;
  int64_t milliseconds = 0;
};

absl::Status Malformed(std::string_view entry, std::string_view why) {
  return absl::InvalidArgumentError(
      fmt::format("fail point \"{}\": {}; it must be NAME=kill[@N], NAME=error[@N] or "
                  "NAME=sleep:MS[@N]",
                  entry, why));
}

bool ParseNumber(std::string_view text, uint64_t* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

absl::Status ParseEntry(std::string_view entry, std::array<Action, kPoints>* actions) {
  const size_t equals = entry.find('=');
  if (equals == std::string_view::npos) return Malformed(entry, "no \"=\"");
  const std::string_view name = entry.substr(0, equals);
  std::string_view what = entry.substr(equals + 1);
  const FailPointInfo* found = nullptr;
  for (const FailPointInfo& info : kTable) {
    if (info.name == name) found = &info;
  }
  if (found == nullptr) return Malformed(entry, "there is no such place");
  Action action;
  if (const size_t at = what.find('@'); at != std::string_view::npos) {
    std::string_view number = what.substr(at + 1);
    action.stays = number.ends_with('+');
    if (action.stays) number.remove_suffix(1);
    if (!ParseNumber(number, &action.at) || action.at == 0) {
      return Malformed(entry, "N is not a positive number");
    }
    what = what.substr(0, at);
  }
  constexpr std::string_view kSleep = "sleep:";
  if (what == "kill") {
    action.kind = Action::Kind::kKill;
  } else if (what == "error") {
    if (!found->can_fail) return Malformed(entry, "the step is done there and cannot fail");
    action.kind = Action::Kind::kError;
  } else if (what.starts_with(kSleep)) {
    action.kind = Action::Kind::kSleep;
    uint64_t milliseconds = 0;
    if (!ParseNumber(what.substr(kSleep.size()), &milliseconds)) {
      return Malformed(entry, "MS is not a number");
    }
    action.milliseconds = static_cast<int64_t>(milliseconds);
  } else {
    return Malformed(entry, "there is no such action");
  }
  (*actions)[static_cast<size_t>(found->point)] = action;
  return absl::OkStatus();
}

class Registry {
 public:
  static Registry& Get() {
    static Registry* const registry = new Registry;
    return *registry;
  }

  absl::Status Arm(std::string_view specification) {
    std::array<Action, kPoints> actions;
    while (!specification.empty()) {
      const size_t comma = specification.find(',');
      absl::Status status = ParseEntry(specification.substr(0, comma), &actions);
      if (!status.ok()) return status;
      specification = comma == std::string_view::npos ? "" : specification.substr(comma + 1);
    }
    std::lock_guard lock(mutex_);
    actions_ = actions;
    return absl::OkStatus();
  }

  uint64_t Hits(FailPoint point) const { return hits_[static_cast<size_t>(point)]; }

  absl::Status Reach(FailPoint point) {
    const FailPointInfo& info = kTable[static_cast<size_t>(point)];
    ++hits_[static_cast<size_t>(point)];
    if (trace_ >= 0) {
      const std::string line = fmt::format("@{}\n", info.name);
      // Nobody who listens is no reason to stop.
      if (write(trace_, line.data(), line.size()) < 0) trace_ = -1;
    }
    Action action;
    {
      std::lock_guard lock(mutex_);
      Action& armed = actions_[static_cast<size_t>(point)];
      if (armed.kind == Action::Kind::kNone || --armed.at > 0) return absl::OkStatus();
      action = armed;
      if (armed.stays) {
        armed.at = 1;
      } else {
        armed = Action();
      }
    }
    switch (action.kind) {
      case Action::Kind::kNone:
        break;
      case Action::Kind::kKill:
        kill(getpid(), SIGKILL);
        for (;;) pause();
      case Action::Kind::kError:
        return absl::UnavailableError(fmt::format("fail point {}", info.name));
      case Action::Kind::kSleep:
        std::this_thread::sleep_for(std::chrono::milliseconds(action.milliseconds));
        break;
    }
    return absl::OkStatus();
  }

 private:
  Registry() {
    if (const char* trace = std::getenv("LECTERN_FAIL_POINT_TRACE"); trace != nullptr) {
      trace_ = std::atoi(trace);
    }
    const char* specification = std::getenv("LECTERN_FAIL_POINTS");
    if (specification == nullptr) return;
    // A test that arms nothing by mistake would pass.
    if (const absl::Status status = Arm(specification); !status.ok()) {
      std::fprintf(stderr, "LECTERN_FAIL_POINTS: %s\n", status.ToString().c_str());
      std::abort();
    }
  }

  std::atomic<int> trace_ = -1;
  std::array<std::atomic<uint64_t>, kPoints> hits_ = {};
  std::mutex mutex_;
  std::array<Action, kPoints> actions_;  // guarded by mutex_
};

}  // namespace

std::span<const FailPointInfo> AllFailPoints() { return kTable; }
absl::Status ArmFailPoints(std::string_view specification) {
  return Registry::Get().Arm(specification);
}
uint64_t FailPointHits(FailPoint point) { return Registry::Get().Hits(point); }
absl::Status ReachFailPoint(FailPoint point) { return Registry::Get().Reach(point); }

}  // namespace lectern::storage
