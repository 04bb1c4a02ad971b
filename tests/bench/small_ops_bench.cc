// How near the small operations of a forward pass on a GPU come to the bandwidth of a copy on the
// same device in the same run.
//   small_ops_bench [results.json] [commit]
// One layer of 64 / 4 heads of 128, index 4 of 128, hidden 6144, a vocabulary of 200064. Median of
// 25 with a cold L2. Bytes are what the operation must move; ratio is their time at the copy's
// bandwidth over the time measured.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/cache_pages/cache_pages_cuda.h"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/head_norm_rope/head_norm_rope_cuda.h"
#include "kernels/index_mass/index_mass_cuda.h"
#include "kernels/rms_norm/rms_norm_cuda.h"
#include "kernels/sampling/argmax_cuda.h"
#include "kernels/swiglu/swiglu_cuda.h"
#include "tests/kernels/cuda/device.h"

namespace lectern::kernels {
namespace {

using testing::Check;
using testing::DeviceArray;

constexpr int kRepeats = 25;
constexpr int64_t kCopyBytes = int64_t{1} << 30;
constexpr int64_t kFlushBytes = int64_t{192} << 20;
constexpr int64_t kHidden = 6144, kVocabulary = 200064, kIntermediate = 12288;
constexpr int kHeads = 64, kKvHeads = 4, kDim = 128, kIndexHeads = 4, kRotary = 64;
constexpr int64_t kColumns = kDim * (kHeads + 2 * kKvHeads + kIndexHeads + 1);

class Bench {
 public:
  Bench() : flush_(static_cast<size_t>(kFlushBytes)) {
    Check(cudaEventCreate(&begin_), "event");
    Check(cudaEventCreate(&end_), "event");
    const DeviceArray<uint8_t> from(static_cast<size_t>(kCopyBytes)),
        to(static_cast<size_t>(kCopyBytes));
    const double us = Time([&] {
      return cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(kCopyBytes),
                             cudaMemcpyDeviceToDevice, nullptr);
    });
    copy_bytes_per_us_ = 2.0 * static_cast<double>(kCopyBytes) / us;
    std::printf("copy: %.0f GB/s, read and written\n", copy_bytes_per_us_ * 1e-3);
  }

  void Run(const std::string& metric, int64_t size, double bytes,
           const std::function<int()>& launch) {
    const double us = Time(launch), ideal = bytes / copy_bytes_per_us_;
    std::printf("%-24s %9lld %10.2f us %8.0f GB/s %5.1f%% of copy\n", metric.c_str(),
                static_cast<long long>(size), us, bytes / us * 1e-3, 100 * ideal / us);
    char against[80];
    std::snprintf(against, sizeof(against), "%.2f us: %.2f MB at the copy's %.0f GB/s", ideal,
                  bytes * 1e-6, copy_bytes_per_us_ * 1e-3);
    rows_.push_back({{"metric", metric},
                     {"size", size},
                     {"value", us},
                     {"unit", "us"},
                     {"against", against},
                     {"ratio", ideal / us}});
  }

  void Write(const char* path, const char* commit) const {
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, 0), "properties");
    const std::time_t now = std::time(nullptr);
    char date[16];
    std::strftime(date, sizeof(date), "%Y-%m-%d", std::gmtime(&now));
    const nlohmann::json all = {
        {"device", properties.name}, {"date", date}, {"commit", commit}, {"rows", rows_}};
    std::ofstream(path) << all.dump(1) << "\n";
  }

 private:
  double Time(const std::function<int()>& launch) {
    std::vector<float> times;
    for (int i = 0; i < kRepeats + 2; ++i) {
      flush_.Fill(i);
      Check(cudaEventRecord(begin_), "record");
      Check(launch(), "launch");
      Check(cudaEventRecord(end_), "record");
      Check(cudaEventSynchronize(end_), "ran");
      float ms = 0;
      Check(cudaEventElapsedTime(&ms, begin_, end_), "time");
      if (i >= 2) times.push_back(ms);
    }
    std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
    return 1e3 * double{times[kRepeats / 2]};
  }

  DeviceArray<uint8_t> flush_;
  cudaEvent_t begin_, end_;
  double copy_bytes_per_us_ = 1;
  std::vector<nlohmann::json> rows_;
};

// Random numbers without the time to make many: a piece, over and over.
template <typename T>
std::vector<T> Tiled(const std::vector<T>& piece, int64_t size) {
  std::vector<T> out(static_cast<size_t>(size));
  for (size_t i = 0; i < out.size(); ++i) out[i] = piece[i % piece.size()];
  return out;
}

std::vector<float> SomeFloats(int64_t size) {
  testing::Noise noise(1);
  std::vector<float> piece(4099);
  for (float& x : piece) x = noise.Normal();
  return Tiled(piece, size);
}
std::vector<Bf16> SomeBf16s(int64_t size) {
  testing::Noise noise(2);
  return Tiled(noise.Normals(65537), size);
}
std::vector<int32_t> Ascending(int64_t size, int32_t first = 0) {
  std::vector<int32_t> out(static_cast<size_t>(size));
  for (size_t i = 0; i < out.size(); ++i) out[i] = first + static_cast<int32_t>(i);
  return out;
}

void RunRows(Bench& bench, int64_t rows) {
  const auto n = static_cast<size_t>(rows);
  {
    const int64_t few = 16384;
    const DeviceArray<Bf16> table(SomeBf16s(few * kHidden));
    std::vector<int32_t> ids = Ascending(rows);
    for (int32_t& id : ids) id = static_cast<int32_t>(id * int64_t{7919} % few);
    const DeviceArray<int32_t> device_ids(ids);
    const DeviceArray<float> x(n * kHidden);
    bench.Run("embed", rows, 6.0 * static_cast<double>(rows * kHidden), [&] {
      return EmbedCuda({device_ids.get(), table.get(), x.get(), rows, kHidden, few}, nullptr);
    });
  }
  {
    const DeviceArray<float> x(SomeFloats(rows * kHidden)), w(SomeFloats(kHidden));
    const DeviceArray<Bf16> y(n * kHidden);
    bench.Run("rms_norm", rows, 6.0 * static_cast<double>(rows * kHidden), [&] {
      return RmsNormCuda({x.get(), kHidden, nullptr, w.get(), y.get(), kHidden, rows, kHidden,
                          1e-6f, NormGain::kGemma},
                         nullptr);
    });
  }
  {
    const DeviceArray<float> in(SomeFloats(rows * 2 * kIntermediate));
    const DeviceArray<Bf16> y(n * kIntermediate);
    bench.Run("swiglu", rows, 10.0 * static_cast<double>(rows * kIntermediate), [&] {
      return SwiGluCuda({in.get(), y.get(), rows, kIntermediate}, nullptr);
    });
  }
  {
    const int64_t pages = (rows + kBlockTokens - 1) / kBlockTokens;
    const DeviceArray<float> x(SomeFloats(rows * kColumns)), gain(SomeFloats(kDim)),
        angles(SomeFloats(rows * kRotary / 2));
    std::vector<int32_t> page = Ascending(rows), slot = page;
    for (int32_t& p : page) p /= kBlockTokens;
    for (int32_t& s : slot) s %= kBlockTokens;
    const DeviceArray<int32_t> device_page(page), device_slot(slot);
    const DeviceArray<Bf16> q(n * kHeads * kDim), index_q(n * kIndexHeads * kDim),
        k(n * kKvHeads * kDim), v(n * kKvHeads * kDim), index_k(n * kDim);
    const auto cached = static_cast<size_t>(pages * TileElements(kDim));
    const DeviceArray<Bf16> k_cache(cached * kKvHeads), v_cache(cached * kKvHeads),
        index_cache(cached);
    const HeadNormRopeCudaParams p = {.x = x.get(),
                                      .x_stride = kColumns,
                                      .rows = rows,
                                      .heads = kHeads,
                                      .kv_heads = kKvHeads,
                                      .dim = kDim,
                                      .index_heads = kIndexHeads,
                                      .index_dim = kDim,
                                      .rotary_dim = kRotary,
                                      .q_gain = gain.get(),
                                      .k_gain = gain.get(),
                                      .index_q_gain = gain.get(),
                                      .index_k_gain = gain.get(),
                                      .eps = 1e-6f,
                                      .gain = NormGain::kGemma,
                                      .cos = angles.get(),
                                      .sin = angles.get(),
                                      .q = q.get(),
                                      .index_q = index_q.get(),
                                      .k = k.get(),
                                      .v = v.get(),
                                      .index_k = index_k.get(),
                                      .kv_pages = device_page.get(),
                                      .index_pages = device_page.get(),
                                      .slots = device_slot.get(),
                                      .k_cache = k_cache.get(),
                                      .v_cache = v_cache.get(),
                                      .index_cache = index_cache.get()};
    const double bytes = 6.0 * static_cast<double>(rows * kColumns) +
                         2.0 * static_cast<double>(rows * kDim * (2 * kKvHeads + 1)) +
                         4.0 * static_cast<double>(rows * kRotary);
    bench.Run("head_norm_rope", rows, bytes, [&] { return HeadNormRopeCuda(p, nullptr); });
  }
}

void RunArgmax(Bench& bench, int32_t rows) {
  const DeviceArray<float> logits(SomeFloats(rows * kVocabulary));
  const auto n = static_cast<size_t>(rows);
  const DeviceArray<int32_t> ids(n);
  const DeviceArray<float> log_probability(n);
  const DeviceArray<uint8_t> workspace(
      static_cast<size_t>(ArgmaxCudaWorkspaceBytes(rows, kVocabulary)));
  bench.Run("argmax", rows, 4.0 * static_cast<double>(rows * kVocabulary), [&] {
    return ArgmaxCuda({logits.get(), kVocabulary, rows, kVocabulary, ids.get(),
                       log_probability.get(), workspace.get()},
                      nullptr);
  });
}

void RunMass(Bench& bench, int64_t tokens, int32_t rows) {
  const int64_t blocks = tokens / kBlockTokens;
  const auto queries = static_cast<size_t>(rows * kIndexHeads);
  const DeviceArray<Bf16> keys(SomeBf16s(blocks * TileElements(kDim))),
      q(SomeBf16s(rows * kIndexHeads * kDim));
  const DeviceArray<int32_t> table(Ascending(blocks)), list(Ascending(rows)),
      positions(Ascending(rows, static_cast<int32_t>(tokens) - rows));
  const DeviceArray<IndexMassRequest> requests(std::vector<IndexMassRequest>{{0, rows, 0}});
  const DeviceArray<float> block_lse(queries * static_cast<size_t>(blocks)),
      block_max(queries * static_cast<size_t>(blocks)), visible(queries), inside(queries);
  std::vector<int32_t> choice(queries * 64, 1);
  const DeviceArray<int32_t> selected(choice);
  IndexMassCudaParams p{};
  p.q = q.get(), p.q_row_stride = kIndexHeads * kDim, p.keys = keys.get();
  p.page_table = table.get(), p.requests = requests.get(), p.num_requests = 1;
  p.max_count = p.listed = rows, p.rows = list.get(), p.positions = positions.get();
  p.max_position = static_cast<int32_t>(tokens) - 1, p.heads = kIndexHeads, p.dim = kDim;
  p.selected = selected.get(), p.selected_stride = 64, p.block_stride = blocks;
  p.block_lse = block_lse.get(), p.block_max = block_max.get();
  p.lse_visible = visible.get(), p.lse_selected = inside.get();
  const std::string by = "_" + std::to_string(rows) + "_rows";
  bench.Run("index_mass" + by, tokens,
            2.0 * kDim * static_cast<double>(tokens) +
                8.0 * static_cast<double>(queries) * static_cast<double>(blocks),
            [&] { return IndexMassCuda(p, nullptr); });
  WidenSelectionCudaParams w{};
  w.scores = block_max.get(), w.score_stride = blocks, w.block_lse = block_lse.get();
  w.block_stride = blocks, w.lse_visible = visible.get(), w.positions = positions.get();
  w.listed = rows, w.heads = kIndexHeads, w.first_topk = 16, w.topk = 64, w.widen_below = 0.9f;
  w.selected = selected.get(), w.selected_stride = 64, w.lse_selected = inside.get();
  bench.Run("widen_selection" + by, tokens,
            4.0 * static_cast<double>(queries) * static_cast<double>(blocks),
            [&] { return WidenSelectionCuda(w, nullptr); });
}

void RunPages(Bench& bench, int32_t blocks) {
  const int64_t block_stride = 2 * kKvHeads * TileElements(kDim);
  const auto n = static_cast<size_t>(blocks * block_stride);
  const DeviceArray<Bf16> tiles(SomeBf16s(blocks * block_stride)), k(n / 2), v(n / 2);
  const DeviceArray<int32_t> pages(Ascending(blocks));
  for (CopyPages direction : {CopyPages::kTilesToPages, CopyPages::kPagesToTiles}) {
    const bool to_pages = direction == CopyPages::kTilesToPages;
    bench.Run(to_pages ? "kv_tiles_to_pages" : "kv_pages_to_tiles", blocks,
              4.0 * static_cast<double>(n), [&] {
                return CopyKvPagesCuda({tiles.get(), block_stride, k.get(), v.get(), nullptr,
                                        pages.get(), blocks, kKvHeads, kDim, direction},
                                       nullptr);
              });
    bench.Run(to_pages ? "index_tiles_to_pages" : "index_pages_to_tiles", blocks,
              2.0 * static_cast<double>(n), [&] {
                return CopyIndexPagesCuda(
                    {tiles.get(), block_stride, k.get(), blocks * TileElements(kDim), nullptr,
                     pages.get(), blocks, kKvHeads, kDim, direction},
                    nullptr);
              });
  }
}

int Main(int argc, char** argv) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::fprintf(stderr, "no NVIDIA GPU on this machine\n");
    return 1;
  }
  Bench bench;
  for (int64_t rows : {1, 64, 2048, 8192}) RunRows(bench, rows);
  for (int32_t rows : {1, 64, 256}) RunArgmax(bench, rows);
  for (int64_t tokens : {int64_t{1} << 15, int64_t{1} << 17, int64_t{1} << 20}) {
    for (int32_t rows : {1, 8, 32}) RunMass(bench, tokens, rows);
  }
  for (int32_t blocks : {16, 512}) RunPages(bench, blocks);
  if (argc > 1) bench.Write(argv[1], argc > 2 ? argv[2] : "");
  return 0;
}

}  // namespace
}  // namespace lectern::kernels

int main(int argc, char** argv) { return lectern::kernels::Main(argc, argv); }
