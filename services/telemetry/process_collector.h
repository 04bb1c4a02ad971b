// What Prometheus's own clients tell of their process, under the same names, from /proc:
//
//   process_cpu_seconds_total, process_start_time_seconds
//   process_resident_memory_bytes, process_virtual_memory_bytes
//   process_open_fds, process_max_fds, process_threads
//
// and of the allocator: lectern_heap_bytes{state="used"|"free"}. Memory that is free there is held
// back for later allocations, and is resident for the most part.
#pragma once

#include <prometheus/collectable.h>

#include <vector>

namespace lectern::services {

class ProcessCollector final : public prometheus::Collectable {
 public:
  // What cannot be read is left out.
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace lectern::services
