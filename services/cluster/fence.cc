#include "services/cluster/fence.h"

#include <ctime>

#include <algorithm>

namespace lectern::services {

std::chrono::nanoseconds Fence::BootTime() {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

void Fence::Renew(std::chrono::nanoseconds asked, std::chrono::seconds ttl) {
  until_ = asked + std::chrono::nanoseconds(ttl) * 9 / 10;
}

std::chrono::nanoseconds Fence::Remaining() const {
  const std::chrono::nanoseconds until = until_;
  const std::chrono::nanoseconds now = clock_();
  return until > now ? until - now : std::chrono::nanoseconds(0);
}

}  // namespace lectern::services
