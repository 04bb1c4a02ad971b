// What the machine does at most, measured in the same process as what is held against it.
#pragma once

#include <string>

#include "engine/device/device.h"
#include "model_work.h"

namespace lectern::engine {

// What the machine does at most.
struct Limits {
  double flops = 0;  // a second, of the projections' shapes
  double bytes = 0;  // a second
  std::string multiplies, moves;
};

Limits CpuLimits(const Work& work);
Limits GpuLimits(Device* device, const Work& work);

// Asks the kernel to forget the pages of every file below `directory`, so that reading them goes to
// the disk.
void DropPages(const std::string& directory);

// Bytes a second of one thread reading everything below `directory` from the disk.
double DiskRate(const std::string& directory);

std::string CpuName();

}  // namespace lectern::engine
