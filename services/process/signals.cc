#include "services/process/signals.h"

#include <csignal>
#include <ctime>

namespace lectern::services {
namespace {

sigset_t TerminationSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

void BlockTerminationSignals() {
  const sigset_t set = TerminationSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

int WaitForTerminationSignal(std::chrono::milliseconds timeout) {
  const sigset_t set = TerminationSignals();
  const timespec time = {static_cast<time_t>(timeout.count() / 1000),
                         static_cast<long>(timeout.count() % 1000) * 1'000'000};
  const int signal = sigtimedwait(&set, nullptr, &time);
  return signal > 0 ? signal : 0;
}

int WaitForTerminationSignal() {
  while (true) {
    if (const int signal = WaitForTerminationSignal(std::chrono::hours{1}); signal != 0) {
      return signal;
    }
  }
}

}  // namespace lectern::services
