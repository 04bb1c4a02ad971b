#include "services/telemetry/process_collector.h"

#include <malloc.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

namespace lectern::services {
namespace {

namespace fs = std::filesystem;

prometheus::MetricFamily Family(prometheus::MetricType type, std::string name, std::string help,
                                double value) {
  prometheus::ClientMetric metric;
  (type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return {std::move(name), std::move(help), type, {metric}};
}

// Fields of /proc/self/stat that are wanted here, numbered from 1 as in proc(5).
struct Stat {
  double user_ticks = 0;      // 14
  double system_ticks = 0;    // 15
  double threads = 0;         // 20
  double start_ticks = 0;     // 22, since the machine started
  double virtual_bytes = 0;   // 23
  double resident_pages = 0;  // 24
};

bool Read(Stat* stat) {
  std::ifstream file("/proc/self/stat");
  std::string line;
  if (!std::getline(file, line)) return false;
  // The second field is the program's name in brackets, and may hold anything.
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string state;
  fields >> state;
  double value = 0;
  for (int number = 4; number <= 24; ++number) {
    if (!(fields >> value)) return false;
    if (number == 14) stat->user_ticks = value;
    if (number == 15) stat->system_ticks = value;
    if (number == 20) stat->threads = value;
    if (number == 22) stat->start_ticks = value;
    if (number == 23) stat->virtual_bytes = value;
    if (number == 24) stat->resident_pages = value;
  }
  return true;
}

// Unix time at which the machine started; 0 if unknown.
double BootTime() {
  std::ifstream file("/proc/stat");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return 0;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessCollector::Collect() const {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families;
  const auto add = [&](MetricType type, const char* name, const char* help, double value) {
    families.push_back(Family(type, name, help, value));
  };
  if (Stat stat; Read(&stat)) {
    const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    add(MetricType::Counter, "process_cpu_seconds_total", "CPU time, user and system.",
        (stat.user_ticks + stat.system_ticks) / ticks);
    if (const double boot = BootTime(); boot > 0) {
      add(MetricType::Gauge, "process_start_time_seconds", "When the process started, Unix time.",
          boot + stat.start_ticks / ticks);
    }
    add(MetricType::Gauge, "process_resident_memory_bytes", "Memory in use.",
        stat.resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
    add(MetricType::Gauge, "process_virtual_memory_bytes", "Addresses in use.", stat.virtual_bytes);
    add(MetricType::Gauge, "process_threads", "Threads.", stat.threads);
  }
  const struct mallinfo2 heap = mallinfo2();
  prometheus::MetricFamily heap_family = {
      "lectern_heap_bytes", "Bytes of the allocator, in use or held back.", MetricType::Gauge, {}};
  for (const auto& [state, bytes] :
       {std::pair("used", heap.uordblks + heap.hblkhd), std::pair("free", heap.fordblks)}) {
    prometheus::ClientMetric metric;
    metric.label = {{"state", state}};
    metric.gauge.value = static_cast<double>(bytes);
    heap_family.metric.push_back(metric);
  }
  families.push_back(heap_family);
  std::error_code error;
  double descriptors = 0;
  for (fs::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++descriptors;
  }
  if (!error) {
    // Without the one that counts them.
    add(MetricType::Gauge, "process_open_fds", "Open file descriptors.", descriptors - 1);
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add(MetricType::Gauge, "process_max_fds", "What they may be.",
        static_cast<double>(limit.rlim_cur));
  }
  return families;
}

}  // namespace lectern::services
