// How close the engine runs to the machine's limits, measured in the same process, on the CPU or on
// a GPU:
//   prefill     floating-point operations of projections, index branch and selected attention, over
//               the rate at which the vendor's library alone (oneDNN, cuBLASLt) multiplies matrices
//               of the projections' shapes
//   decode      one step, over the bytes it must touch divided by the measured bandwidth (of reads
//               on the CPU, of a copy on the GPU)
//   replayed    a decode step of several contexts launched call by call over one that is replayed
//   as
//               a CUDA graph (GPU), unobserved as in `decode` and observed as answers are
//   sparse      a dense decode step of the same weights over a sparse one (CPU)
//   ttft        a first token of a stored context: cold from disk, and asked again at once, beside
//               prefilling it again and beside reading everything stored of it at the disk's rate
//   batch       answers of many questions at once on one document
//   rows        a decode step of several rows over one of a single row
//   beside      seconds a token while another corpus is prefilled, over those of an idle machine
//   drafts      tokens a second of copying answers, with guesses over without (answer/draft.h)
//   engine_bench <models> <scratch directory> <result.json> [longest context in tokens
//                [cpu|cuda [commit]]]
// Models, parted by commas: `bundled`, `all_msa` (bench_model.h, made in the scratch directory), or
// a directory.
// Contexts of 8K tokens and more of generated text. Medians; nothing else should run.
#include <fmt/format.h>
#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "bench_model.h"
#include "bench_report.h"
#include "engine/cuda/cuda_backend.h"
#include "engine/model/config.h"
#include "forward_bench.h"
#include "kernels/matmul/matmul.h"
#include "machine_limits.h"
#include "served_bench.h"

namespace lectern::engine {
namespace {

constexpr int64_t kSizes[] = {8192, 32768, 131072, 524288, 1048576};
constexpr int64_t kShortestStored = 32768;

// Where a model lies that was named on the command line.
std::string DirectoryOf(const std::string& model, const std::string& scratch) {
  if (model == "bundled") return LECTERN_SOURCE_DIR "/models/default";
  if (model != "all_msa") return model;
  const std::string directory = scratch + "/all_msa";
  if (!std::filesystem::exists(directory)) WriteBenchModel(directory);
  return directory;
}

void Measure(const std::string& model_dir, const std::string& scratch, int64_t longest, bool gpu,
             BenchReport* report) {
  std::vector<int64_t> sizes;
  for (const int64_t size : kSizes) {
    if (size <= longest) sizes.push_back(size);
  }
  const ModelConfig config = Must(LoadModelConfig(model_dir + "/config.json"));
  Limits limits;
  BackendOptions backend;
  const int64_t chunk = gpu ? 8192 : 1024;
  if (gpu) {
    auto opened = Must(OpenCudaDevice());
    report->set_device(opened->Name());
    limits = GpuLimits(opened.get(), Work(config));
    backend = {.open_device = OpenCudaDevice, .sizes = {.step_tokens = chunk}};
  } else {
    report->set_device(fmt::format("{}, {} threads, {}", CpuName(), omp_get_max_threads(),
                                   kernels::KernelProvenance()));
    limits = CpuLimits(Work(config));
  }
  {
    auto model = Must(ServingModel::Load(model_dir, false, backend));
    PrefillAndDecode(model.get(), limits, sizes, chunk, /*with_dense=*/!gpu, report);
  }
  if (gpu) CompareWithLaunched(model_dir, backend, report);
  for (const int64_t size : sizes) {
    // On a CPU one context, of a length that is prefilled in minutes.
    if (size < kShortestStored || (!gpu && size > kShortestStored)) continue;
    const std::string data_dir = fmt::format("{}/stored_{}", scratch, size);
    StoredContext({.data_dir = data_dir,
                   .model_dir = model_dir,
                   .pool_bytes = int64_t{gpu ? 8 : 2} << 30,
                   .device = gpu ? ComputeDevice::kCuda : ComputeDevice::kCpu},
                  size, report);
    std::filesystem::remove_all(data_dir);
  }
}

int Main(int argc, char** argv) {
  if (argc < 4 || (argc > 5 && std::string(argv[5]) != "cpu" && std::string(argv[5]) != "cuda")) {
    fmt::print(stderr,
               "usage: engine_bench <models> <scratch directory> <result.json> [longest context "
               "[cpu|cuda [commit]]]\n");
    return 2;
  }
  const std::string scratch = argv[2];
  const int64_t longest = argc > 4 ? std::atoll(argv[4]) : 131072;
  const bool gpu = argc > 5 && std::string(argv[5]) == "cuda";
  if (longest < kSizes[0]) {
    fmt::print(stderr, "the longest context is at least {} tokens\n", kSizes[0]);
    return 2;
  }
  BenchReport report(argv[3], argc > 6 ? argv[6] : "");
  std::istringstream models(argv[1]);
  for (std::string model; std::getline(models, model, ',');) {
    report.set_model(std::filesystem::path(model).filename());
    Measure(DirectoryOf(model, scratch), scratch, longest, gpu, &report);
  }
  return 0;
}

}  // namespace
}  // namespace lectern::engine

int main(int argc, char** argv) { return lectern::engine::Main(argc, argv); }
