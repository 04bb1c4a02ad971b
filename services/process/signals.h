// SIGTERM and SIGINT as something to wait for.
#pragma once

#include <chrono>

namespace lectern::services {

// Blocks both signals in this thread and in those it starts later: call it first in main.
void BlockTerminationSignals();

// Waits for one of them; returns its number, or 0 when `timeout` has passed.
int WaitForTerminationSignal(std::chrono::milliseconds timeout);
int WaitForTerminationSignal();

}  // namespace lectern::services
