#include "machine_limits.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <vector>

#include "bench_report.h"
#include "engine/device/device_memory.h"
#include "kernels/matmul/matmul.h"

namespace lectern::engine {
namespace {

// FLOP/s of oneDNN on one product of `m` rows with all threads, in the type that the engine's
// products use.
double OneDnnRate(int64_t m, int64_t n, int64_t k) {
  using dnnl::matmul;
  using dnnl::memory;
  const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  dnnl::stream queue(cpu);
  const auto type = kernels::MatmulUsesBf16() ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::desc x({m, k}, type, memory::format_tag::ab);
  const memory::desc any({k, n}, type, memory::format_tag::any);
  const memory::desc y({m, n}, memory::data_type::f32, memory::format_tag::ab);
  const matmul::primitive_desc description(matmul::desc(x, any, y), cpu);
  memory mx(x, cpu), mw(description.weights_desc(), cpu), my(y, cpu);
  std::mt19937 random(1);
  for (memory* operand : {&mx, &mw}) {
    auto* bytes = static_cast<uint16_t*>(operand->get_data_handle());
    const size_t count = operand->get_desc().get_size() / 2;
    // Halves of numbers near one: random mantissas, harmless exponents, in bf16 and as the high
    // halves of fp32.
    for (size_t i = 0; i < count; ++i)
      bytes[i] = static_cast<uint16_t>(0x3f00 | (random() & 0x80ff));
  }
  const matmul product(description);
  std::vector<double> seconds;
  for (int round = 0; round < 12; ++round) {
    const double begin = Seconds();
    product.execute(queue, {{DNNL_ARG_SRC, mx}, {DNNL_ARG_WEIGHTS, mw}, {DNNL_ARG_DST, my}});
    queue.wait();
    if (round >= 2) seconds.push_back(Seconds() - begin);
  }
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) /
         Median(seconds);
}

// Bytes per second of all threads summing a buffer much larger than the caches.
double ReadBandwidth() {
  std::vector<uint64_t> buffer((size_t{1} << 30) / 8);
  for (size_t i = 0; i < buffer.size(); ++i) buffer[i] = i * 0x9E3779B97F4A7C15ull;
  std::vector<double> seconds;
  uint64_t sink = 0;
  for (int round = 0; round < 7; ++round) {
    const double begin = Seconds();
    uint64_t sum = 0;
#pragma omp parallel for simd reduction(+ : sum) schedule(static)
    for (size_t i = 0; i < buffer.size(); ++i) sum += buffer[i];
    sink ^= sum;
    if (round > 0) seconds.push_back(Seconds() - begin);
  }
  if (sink == 1) fmt::print("\n");  // the sums must be computed
  return static_cast<double>(buffer.size() * 8) / Median(seconds);
}

template <typename Rate>
double LimitRate(const Work& work, int64_t rows, const Rate& rate) {
  struct Product {
    int64_t n, k;
  };
  const ModelConfig& c = work.c;
  double flops = 0;
  double seconds = 0;
  for (const Product& p : {Product{work.QkvColumns(), c.hidden_size},
                           Product{c.hidden_size, int64_t{c.num_heads} * c.head_dim},
                           Product{2 * int64_t{c.intermediate_size}, c.hidden_size},
                           Product{c.hidden_size, c.intermediate_size}}) {
    const double f = 2.0 * static_cast<double>(rows * p.n * p.k);
    flops += f;
    seconds += f / rate(rows, p.n, p.k);
  }
  return flops / seconds;
}

// Seconds of one of `calls` in a row, the median of several such rows.
template <typename Call>
double DeviceSeconds(Device* device, int calls, const Call& call) {
  std::vector<double> seconds;
  for (int round = 0; round < 12; ++round) {
    Must(device->Synchronize());
    const double begin = Seconds();
    for (int i = 0; i < calls; ++i) Must(call());
    Must(device->Synchronize());
    if (round >= 2) seconds.push_back((Seconds() - begin) / calls);
  }
  return Median(seconds);
}

}  // namespace

Limits CpuLimits(const Work& work) {
  return {.flops = LimitRate(work, 1024, OneDnnRate),
          .bytes = ReadBandwidth(),
          .multiplies = "oneDNN",
          .moves = "reads"};
}

Limits GpuLimits(Device* device, const Work& work) {
  const auto product = [device](int64_t rows, int64_t n, int64_t k) {
    std::vector<kernels::Bf16> numbers(static_cast<size_t>((rows + n) * k));
    std::mt19937 random(1);
    // Near one, with random mantissas and signs.
    for (kernels::Bf16& x : numbers) x.bits = static_cast<uint16_t>(0x3f00 | (random() & 0x80ff));
    const int64_t bytes = static_cast<int64_t>(numbers.size() * sizeof(kernels::Bf16));
    DeviceArray<kernels::Bf16> in;
    DeviceArray<float> out;
    Must(in.Grow(device, static_cast<int64_t>(numbers.size())));
    Must(out.Grow(device, rows * n));
    Must(device->ToDevice(in.get(), numbers.data(), bytes));
    const double seconds = DeviceSeconds(device, 20, [&] {
      return device->MultiplyTiles(
          {.x = in.get(), .w = in.get() + rows * k, .y = out.get(), .rows = rows, .n = n, .k = k});
    });
    return 2.0 * static_cast<double>(rows * n * k) / seconds;
  };
  constexpr int64_t kCopied = int64_t{1} << 30;
  DeviceArray<std::byte> from, to;
  Must(from.Grow(device, kCopied));
  Must(to.Grow(device, kCopied));
  Must(device->Clear(from.get(), kCopied));
  const double seconds =
      DeviceSeconds(device, 4, [&] { return device->WithinDevice(to.get(), from.get(), kCopied); });
  return {.flops = LimitRate(work, 8192, product),
          .bytes = 2.0 * static_cast<double>(kCopied) / seconds,
          .multiplies = "cuBLASLt",
          .moves = "a copy, read and written"};
}

void DropPages(const std::string& directory) {
  sync();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int file = open(entry.path().c_str(), O_RDONLY);
    if (file < 0) continue;
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

double DiskRate(const std::string& directory) {
  DropPages(directory);
  std::vector<char> buffer(size_t{8} << 20);
  int64_t bytes = 0;
  const double begin = Seconds();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int file = open(entry.path().c_str(), O_RDONLY);
    if (file < 0) continue;
    for (ssize_t n; (n = read(file, buffer.data(), buffer.size())) > 0;) bytes += n;
    close(file);
  }
  return static_cast<double>(bytes) / (Seconds() - begin);
}

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

}  // namespace lectern::engine
