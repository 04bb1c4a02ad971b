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
//   drafts      tokens a second of copying answers, with guesses over without (answer/draft.h)
//   engine_bench <model directory> <scratch directory> <result.json> [longest context in tokens
//                [cpu|cuda [commit]]]
// Contexts of 8K tokens and more of generated text. Medians; nothing else should run.
#include <fcntl.h>
#include <fmt/format.h>
#include <omp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <thread>

#include "engine/cuda/cuda_backend.h"
#include "engine/device/device.h"
#include "engine/device/device_memory.h"
#include "engine/kv/context.h"
#include "engine/model/config.h"
#include "engine/model/cpu_decoder.h"
#include "engine/model/serving_model.h"
#include "kernels/matmul/matmul.h"
#include "storage/store.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

constexpr int64_t kSizes[] = {8192, 32768, 131072, 524288, 1048576};
constexpr int kDecodeSteps = 33;
constexpr int32_t kStepRows[] = {2, 4, 8, 16, 32};
constexpr const char* kWrittenTexts[] = {"employee_handbook", "insurance_policy", "lease",
                                         "museum_guide",      "quarterly_report", "travel_diary"};
constexpr int kCopyQuestions = 24;
constexpr int kCopiedTokens = 48;
constexpr int64_t kAskedTogether = 131072;  // the context that many questions are asked of at once

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    fmt::print(stderr, "{}\n", value.status().ToString());
    std::exit(1);
  }
  return *std::move(value);
}

void Must(const absl::Status& status) {
  if (!status.ok()) {
    fmt::print(stderr, "{}\n", status.ToString());
    std::exit(1);
  }
}

struct Row {
  std::string metric;
  int64_t size;
  double value;
  std::string unit;
  std::string against;
  double ratio;
};
std::vector<Row> rows;

void Report(const Row& row) {
  rows.push_back(row);
  fmt::print("{:<22} {:>8} {:>12.4g} {:<10} {:>8.3f}  {}\n", row.metric, row.size, row.value,
             row.unit, row.ratio, row.against);
  std::fflush(stdout);
}

// ---- limits ----

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

// ---- the model's work ----

struct Work {
  explicit Work(const ModelConfig& config) : c(config) {}

  int64_t QkvColumns() const {
    return int64_t{c.num_heads} * c.head_dim + 2 * c.kv_width() +
           (c.num_kv_heads + 1) * int64_t{c.sparse.index_dim};
  }
  // Of one token's projections, all layers.
  double ProjectionFlops() const {
    const double columns = static_cast<double>(QkvColumns()) + int64_t{c.num_heads} * c.head_dim +
                           3.0 * c.intermediate_size;
    return 2.0 * c.num_layers * c.hidden_size * columns;
  }
  // Of the rows at positions [begin, end): index scores of all earlier blocks, attention to the
  // selected tokens.
  double AttentionFlops(int64_t begin, int64_t end) const {
    double flops = 0;
    for (int64_t p = begin; p < end; ++p) {
      const double scored = static_cast<double>(p / kBlockTokens * kBlockTokens);
      const double own = static_cast<double>(p % kBlockTokens + 1);
      const double selected =
          own + static_cast<double>(std::min<int64_t>(p / kBlockTokens, c.sparse.topk_blocks - 1) *
                                    kBlockTokens);
      flops += 2.0 * c.num_kv_heads * c.sparse.index_dim * scored +
               4.0 * c.num_heads * c.head_dim * selected;
    }
    return flops * c.num_layers;
  }
  // That one decode step at `tokens` of context must read: weights, output matrix, index keys,
  // selected blocks.
  double DecodeBytes(int64_t tokens, bool dense) const {
    const double weights =
        ProjectionFlops() + 2.0 * c.vocab_size * c.hidden_size;  // bf16: 2 bytes for 2 FLOPs
    const double kv_token = 4.0 * c.kv_width() * c.num_layers;
    if (dense) return weights + kv_token * static_cast<double>(tokens);
    const double index = 2.0 * c.sparse.index_dim * c.num_layers * static_cast<double>(tokens);
    // Every group selects its own blocks; each reads its heads' share of a block.
    const double selected =
        static_cast<double>(std::min<int64_t>(tokens, c.sparse.topk_blocks * kBlockTokens));
    return weights + index + kv_token * selected;
  }
  const ModelConfig& c;
};

// What the machine does at most.
struct Limits {
  double flops = 0;  // a second, of the projections' shapes
  double bytes = 0;  // a second
  std::string multiplies, moves;
};

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

Limits CpuLimits(const Work& work) {
  return {.flops = LimitRate(work, 1024, OneDnnRate),
          .bytes = ReadBandwidth(),
          .multiplies = "oneDNN",
          .moves = "reads"};
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

std::vector<TokenId> Tokens(const ServingModel& model, int64_t count) {
  std::vector<TokenId> tokens = {model.layout().bos()};
  uint64_t seed = 1;
  while (static_cast<int64_t>(tokens.size()) < count) {
    const auto ids = Must(model.tokenizer().EncodeIds(testing::RandomText(20000, seed++)));
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  }
  tokens.resize(static_cast<size_t>(count));
  return tokens;
}

// Of steps that decode so many tokens of every context, of which one stays.
double MedianDecodeStep(Decoder* decoder, std::span<Context* const> contexts, TokenId token,
                        AttentionObserver* observer = nullptr, int32_t rows = 1) {
  std::vector<double> seconds;
  std::vector<TokenId> tokens(contexts.size(), token);
  for (int step = 0; step < kDecodeSteps; ++step) {
    std::vector<StepSegment> segments;
    std::vector<std::vector<TokenId>> said;
    for (size_t i = 0; i < contexts.size(); ++i) said.emplace_back(rows, tokens[i]);
    for (size_t i = 0; i < contexts.size(); ++i) {
      Must(contexts[i]->Reserve(rows));
      segments.push_back({.context = contexts[i],
                          .tokens = said[i],
                          .tiled = false,
                          .logit_rows = rows,
                          .observer = observer});
    }
    const double begin = Seconds();
    const std::vector<SegmentResult> results = decoder->Step(segments);
    const double end = Seconds();
    if (step >= 3) seconds.push_back(end - begin);
    for (size_t i = 0; i < contexts.size(); ++i) {
      Must(results[i].status);
      contexts[i]->TakeBack(rows - 1);
      const auto first = results[i].logits.begin();
      tokens[i] = static_cast<TokenId>(
          std::max_element(first, first + decoder->config().vocab_size) - first);
    }
  }
  return Median(seconds);
}

double MedianDecodeStep(Decoder* decoder, Context* context, TokenId token, int32_t rows = 1) {
  return MedianDecodeStep(decoder, std::span(&context, 1), token, nullptr, rows);
}

// A context whose keys and values are random: what a dense decode step reads, without an hour of
// dense prefill.
std::unique_ptr<Context> RandomContext(KvMemory* memory, int64_t tokens) {
  auto context = Must(Context::Open(memory, 1, {}, 0, memory->NewUnstoredLineage()));
  Must(context->Reserve(tokens));
  const KvShape& shape = memory->shape();
  const int64_t width = int64_t{shape.kv_heads()} * shape.head_dim();
  std::vector<kernels::Bf16> k(static_cast<size_t>(kBlockTokens * width)), v(k.size());
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (int64_t first = 0; first < tokens; first += kBlockTokens) {
    for (int layer = 0; layer < shape.layers(); ++layer) {
      for (size_t i = 0; i < k.size(); ++i) {
        k[i] = kernels::ToBf16(normal(random));
        v[i] = kernels::ToBf16(normal(random));
      }
      context->Write(layer, {.first_position = first,
                             .count = static_cast<int32_t>(std::min(kBlockTokens, tokens - first)),
                             .k = k.data(),
                             .k_stride = width,
                             .v = v.data(),
                             .v_stride = width});
    }
  }
  context->Advance(tokens);
  return context;
}

// Decode steps of the same weights with --attention=dense over sparse ones.
void CompareWithDense(ServingModel* model, const std::vector<int64_t>& sizes, int64_t blocks,
                      const std::vector<double>& sparse_seconds) {
  auto store = Must(storage::Store::OpenInMemory({}));
  const KvShape shape(model->decoder().geometry());
  DecoderOptions dense_options = model->decoder().options();
  std::fill(dense_options.attention.begin(), dense_options.attention.end(), LayerAttention::kDense);
  auto dense = Must(CpuDecoder::Create(&model->checkpoint(), dense_options));
  KvMemory dense_memory(
      KvShape(dense->geometry()), &store->blocks(),
      {.pool_bytes = blocks * shape.layers() * shape.kv_slot_bytes(), .index_bytes = blocks * 64});
  for (size_t i = 0; i < sizes.size(); ++i) {
    auto dense_context = RandomContext(&dense_memory, sizes[i]);
    const double step = MedianDecodeStep(dense.get(), dense_context.get(), model->layout().bos());
    Report({"decode_sparse_speedup", sizes[i], sparse_seconds[i] * 1e3, "ms",
            fmt::format("{:.3f} ms: the same weights, --attention=dense", step * 1e3),
            step / sparse_seconds[i]});
  }
}

void PrefillAndDecode(ServingModel* model, const Limits& limits, const std::vector<int64_t>& sizes,
                      int64_t chunk, bool with_dense) {
  const Work work(model->config());
  fmt::print("limits: {} {:.0f} GFLOP/s on the projections' shapes, {} {:.1f} GB/s\n",
             limits.multiplies, limits.flops / 1e9, limits.moves, limits.bytes / 1e9);

  const int64_t longest = sizes.back();
  const std::vector<TokenId> tokens = Tokens(*model, longest);
  auto store = Must(storage::Store::OpenInMemory({}));
  const KvShape shape(model->decoder().geometry());
  const int64_t measured = (1 + static_cast<int64_t>(std::size(kStepRows))) * kDecodeSteps;
  const int64_t blocks = BlocksOf(longest + static_cast<int64_t>(sizes.size()) * measured) + 3;
  KvMemory memory(shape, &store->blocks(),
                  {.pool_bytes = blocks * shape.layers() * shape.kv_slot_bytes(),
                   .index_bytes = blocks * shape.index_slot_bytes()});
  auto context = Must(Context::Open(&memory, 1, {}, 0, memory.NewUnstoredLineage()));
  double seconds = 0;
  double flops = 0;
  std::vector<double> decode_seconds;
  size_t next = 0;
  for (int64_t done = 0; done < longest;) {
    const int64_t count = std::min(chunk, longest - done);
    Must(context->Reserve(count));
    const StepSegment segment = {
        .context = context.get(),
        .tokens = std::span(tokens).subspan(static_cast<size_t>(done), static_cast<size_t>(count))};
    const int64_t first = context->token_count();
    const double begin = Seconds();
    Must(model->decoder().Step(std::span(&segment, 1))[0].status);
    seconds += Seconds() - begin;
    flops += work.ProjectionFlops() * static_cast<double>(count) +
             work.AttentionFlops(first, first + count);
    done += count;
    if (done < sizes[next]) continue;
    Report({"prefill", sizes[next], static_cast<double>(done) / seconds, "tokens/s",
            fmt::format("{:.0f} of the {:.0f} GFLOP/s of {}", flops / seconds / 1e9,
                        limits.flops / 1e9, limits.multiplies),
            flops / seconds / limits.flops});
    const double step =
        MedianDecodeStep(&model->decoder(), context.get(), tokens[static_cast<size_t>(done - 1)]);
    const double floor = work.DecodeBytes(done, /*dense=*/false) / limits.bytes;
    Report({"decode_step", sizes[next], step * 1e3, "ms",
            fmt::format("{:.3f} ms: bytes over {:.1f} GB/s ({})", floor * 1e3, limits.bytes / 1e9,
                        limits.moves),
            step / floor});
    decode_seconds.push_back(step);
    for (const int32_t rows : kStepRows) {
      const double several = MedianDecodeStep(&model->decoder(), context.get(),
                                              tokens[static_cast<size_t>(done - 1)], rows);
      Report({fmt::format("decode_rows_{}", rows), sizes[next], several * 1e3, "ms",
              fmt::format("{:.3f} ms: one row", step * 1e3), several / step});
    }
    ++next;
  }
  context.reset();
  if (with_dense) CompareWithDense(model, sizes, blocks, decode_seconds);
}

class NobodyLooks final : public AttentionObserver {
  absl::Status OnLayer(const LayerObservation&) override { return absl::OkStatus(); }
};

// Decode steps that are replayed beside the same steps launched call by call.
void CompareWithLaunched(const std::string& model_dir, BackendOptions backend) {
  constexpr int kCounts[] = {1, 8, 32};
  constexpr int kMost = 32;
  constexpr int64_t kTokens = 4096;
  NobodyLooks observer;
  AttentionObserver* const observers[] = {nullptr, &observer};
  std::vector<double> launched, replayed;
  backend.sizes.step_contexts = kMost;
  for (const bool replay : {false, true}) {
    backend.sizes.replay = replay;
    auto model = Must(ServingModel::Load(model_dir, false, backend));
    const std::vector<TokenId> tokens = Tokens(*model, kTokens);
    auto store = Must(storage::Store::OpenInMemory({}));
    const KvShape shape(model->decoder().geometry());
    const int64_t decoded = kDecodeSteps * static_cast<int64_t>(std::size(kCounts)) * 2;
    const int64_t blocks = kMost * (BlocksOf(kTokens + decoded) + 2);
    KvMemory memory(shape, &store->blocks(),
                    {.pool_bytes = blocks * shape.layers() * shape.kv_slot_bytes(),
                     .index_bytes = blocks * shape.index_slot_bytes()});
    std::vector<std::unique_ptr<Context>> contexts;
    std::vector<Context*> together;
    for (int i = 0; i < kMost; ++i) {
      contexts.push_back(Must(Context::Open(&memory, 1, {}, 0, memory.NewUnstoredLineage())));
      together.push_back(contexts.back().get());
      Must(together.back()->Reserve(kTokens));
      const StepSegment segment = {.context = together.back(), .tokens = tokens};
      Must(model->decoder().Step(std::span(&segment, 1))[0].status);
    }
    for (const int count : kCounts) {
      for (AttentionObserver* looks : observers) {
        const std::span<Context* const> asked(together.data(), static_cast<size_t>(count));
        (replay ? replayed : launched)
            .push_back(MedianDecodeStep(&model->decoder(), asked, tokens.back(), looks));
      }
    }
    const DeviceUse use = model->decoder().device_use().value_or(DeviceUse{});
    fmt::print("{} steps replayed, {} launched\n", use.replayed_steps, use.launched_steps);
  }
  for (size_t i = 0; i < launched.size(); ++i) {
    Report({i % 2 == 0 ? "decode_replayed" : "decode_replayed_observed", kCounts[i / 2],
            replayed[i] * 1e3, "ms", fmt::format("{:.3f} ms: call by call", launched[i] * 1e3),
            launched[i] / replayed[i]});
  }
}

// Asks the kernel to forget the pages of every file below `directory`, so that reading them goes to
// the disk.
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

// Bytes a second of one thread reading everything below `directory` from the disk.
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

double FirstToken(Engine& engine, const CorpusName& corpus, const std::string& question) {
  const Answer answer = Must(testing::AskAndWait(
      engine, {.target = {.corpus = corpus}, .question = question, .max_tokens = 1}));
  return static_cast<double>(answer.usage.time_to_first_token_us) / 1e6;
}

// Answers a second of `count` questions asked at once; each of its own, and short as the model's
// are.
double Throughput(Engine& engine, const CorpusName& corpus, int count) {
  const double begin = Seconds();
  std::vector<std::thread> askers;
  for (int i = 0; i < count; ++i) {
    askers.emplace_back([&, i] {
      Must(testing::AskAndWait(
          engine, {.target = {.corpus = corpus},
                   .question = fmt::format("What is said of {}?", testing::RandomText(2, 100 + i)),
                   .max_tokens = 32}));
    });
  }
  for (std::thread& asker : askers) asker.join();
  return count / (Seconds() - begin);
}

// Answers that copy from texts that people wrote, among `tokens` tokens of other text, with guesses
// and without.
void DraftedAnswers(EngineOptions options, int64_t tokens) {
  const CorpusName corpus = {.tenant = "default", .corpus = "written"};
  std::vector<std::string> texts;
  {
    auto engine = Must(Engine::Open(options));
    for (const char* name : kWrittenTexts) {
      std::ifstream file(fmt::format("{}/training/handwritten/{}.txt", LECTERN_SOURCE_DIR, name));
      texts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      testing::Upload(*engine, corpus, name, texts.back());
    }
    // Of the written ones about four bytes are a token.
    const double written = static_cast<double>(texts.size() * texts[0].size()) / 4;
    testing::Upload(
        *engine, corpus, "other",
        testing::RandomText(static_cast<int>((static_cast<double>(tokens) - written) / 2.9), 5));
    Must(testing::IngestAndWait(*engine, corpus).error);
  }
  std::vector<std::string> questions;
  std::mt19937 random(9);
  while (questions.size() < kCopyQuestions) {
    const std::string& text = texts[random() % texts.size()];
    const size_t begin = text.find(' ', random() % (text.size() - 500)) + 1;
    size_t end = begin;
    for (int word = 0; word < 8; ++word) end = text.find_first_of(" \n", end + 1);
    const std::string quote = text.substr(begin, end - begin);
    if (quote.find('\n') == std::string::npos) {
      questions.push_back("What follows the words: " + quote);
    }
  }
  struct Asked {
    std::vector<std::string> texts;
    double tokens = 0, seconds = 0;  // behind the first token of each answer
    int64_t tokens_in_context = 0, drafted = 0, accepted = 0;
  };
  const auto ask_all = [&](bool drafts) {
    options.drafts = drafts;
    auto engine = Must(Engine::Open(options));
    Asked asked;
    for (int round = 0; round < 2; ++round) {  // the first one brings into memory what they read
      asked = {};
      for (const std::string& question : questions) {
        const Answer answer = Must(testing::AskAndWait(
            *engine,
            {.target = {.corpus = corpus}, .question = question, .max_tokens = kCopiedTokens}));
        const Usage& usage = answer.usage;
        asked.texts.push_back(answer.text);
        asked.tokens_in_context = usage.cached_tokens;
        asked.tokens += static_cast<double>(usage.generated_tokens - 1);
        asked.seconds +=
            static_cast<double>(usage.total_time_us - usage.time_to_first_token_us) / 1e6;
        asked.drafted += usage.drafted_tokens;
        asked.accepted += usage.accepted_tokens;
      }
    }
    return asked;
  };
  const Asked without = ask_all(false);
  const Asked with = ask_all(true);
  int equal = 0;
  for (size_t i = 0; i < questions.size(); ++i) equal += with.texts[i] == without.texts[i];
  const double rate = with.tokens / with.seconds;
  const double plain = without.tokens / without.seconds;
  Report({"drafted_answers", with.tokens_in_context, rate, "tokens/s",
          fmt::format("{:.1f} tokens/s: without; {} of {} guesses right, {} of {} answers equal, "
                      "{:.1f} tokens each",
                      plain, with.accepted, with.drafted, equal, questions.size(),
                      with.tokens / static_cast<double>(questions.size())),
          rate / plain});
}

void StoredContext(EngineOptions options, int64_t tokens) {
  const CorpusName corpus = {.tenant = "default", .corpus = "bench"};
  options.batch_limit = 64;
  double prefill_seconds = 0;
  int64_t prefilled = 0;
  int64_t stored = 0;
  // 2.86 tokens a word of this text: a little less than `tokens`, which the longest context, less
  // what is kept for questions, must take.
  const std::string text =
      testing::RandomText(static_cast<int>(static_cast<double>(tokens) / 2.9), 3);
  {
    auto engine = Must(Engine::Open(options));
    testing::Upload(*engine, corpus, "text", text);
    const double begin = Seconds();
    const Operation operation = testing::IngestAndWait(*engine, corpus);
    prefill_seconds = Seconds() - begin;
    Must(operation.error);
    prefilled = operation.tokens_total;
    stored = Must(engine->GetCorpus(corpus)).cache_bytes;
  }
  std::vector<double> cold, warm;
  for (int round = 0; round < 5; ++round) {
    auto engine = Must(Engine::Open(options));
    DropPages(options.data_dir);
    cold.push_back(FirstToken(*engine, corpus, "What is it?"));
    for (int again = 0; again < 3; ++again)
      warm.push_back(FirstToken(*engine, corpus, "What is it?"));
    if (round < 4 || tokens != kAskedTogether) continue;
    Throughput(*engine, corpus, 64);  // so that what they select is in memory
    const double one = Throughput(*engine, corpus, 1);
    for (const int count : {16, 64}) {
      const double many = Throughput(*engine, corpus, count);
      Report({fmt::format("answers_{}", count), prefilled, many, "answers/s",
              fmt::format("{:.1f} answers/s: one question", one), many / one});
    }
  }
  const double rate = DiskRate(options.data_dir);
  const double all = static_cast<double>(stored) / rate;
  Report({"ttft_disk", prefilled, Median(cold) * 1e3, "ms",
          fmt::format("{:.1f} s: text, tokens and prefill again", prefill_seconds),
          prefill_seconds / Median(cold)});
  Report({"ttft_disk_load_all", prefilled, Median(cold) * 1e3, "ms",
          fmt::format("{:.3f} s: its {:.1f} MB of cache at the {:.0f} MB/s of the disk", all,
                      static_cast<double>(stored) / 1e6, rate / 1e6),
          all / Median(cold)});
  Report({"ttft_again", prefilled, Median(warm) * 1e3, "ms",
          fmt::format("{:.1f} ms: cold from disk", Median(cold) * 1e3),
          Median(cold) / Median(warm)});
  DraftedAnswers(options, tokens);
}

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

// After every part, so that an end before the last one leaves what was measured.
void WriteResults(const char* path, const std::string& device, const char* commit) {
  const std::time_t now = std::time(nullptr);
  char date[16];
  std::strftime(date, sizeof(date), "%Y-%m-%d", std::gmtime(&now));
  nlohmann::json json = {
      {"device", device}, {"date", date}, {"commit", commit}, {"rows", nlohmann::json::array()}};
  for (const Row& row : rows) {
    json["rows"].push_back({{"metric", row.metric},
                            {"size", row.size},
                            {"value", row.value},
                            {"unit", row.unit},
                            {"against", row.against},
                            {"ratio", std::round(row.ratio * 1000) / 1000}});
  }
  std::ofstream(path) << json.dump(1) << "\n";
}

int Main(int argc, char** argv) {
  if (argc < 4 || (argc > 5 && std::string(argv[5]) != "cpu" && std::string(argv[5]) != "cuda")) {
    fmt::print(stderr,
               "usage: engine_bench <model directory> <scratch directory> <result.json> [longest "
               "context [cpu|cuda [commit]]]\n");
    return 2;
  }
  const std::string model_dir = argv[1];
  const std::string scratch = argv[2];
  const int64_t longest = argc > 4 ? std::atoll(argv[4]) : 131072;
  const bool gpu = argc > 5 && std::string(argv[5]) == "cuda";
  std::vector<int64_t> sizes;
  for (const int64_t size : kSizes) {
    if (size <= longest) sizes.push_back(size);
  }
  std::string device;
  Limits limits;
  BackendOptions backend;
  const int64_t chunk = gpu ? 8192 : 1024;
  if (gpu) {
    auto opened = Must(OpenCudaDevice());
    device = opened->Name();
    const ModelConfig config = Must(LoadModelConfig(model_dir + "/config.json"));
    limits = GpuLimits(opened.get(), Work(config));
    backend = {.open_device = OpenCudaDevice, .sizes = {.step_tokens = chunk}};
  }
  auto model = Must(ServingModel::Load(model_dir, false, backend));
  if (!gpu) {
    limits = CpuLimits(Work(model->config()));
    device = fmt::format("{}, {} threads, {}", CpuName(), omp_get_max_threads(),
                         kernels::KernelProvenance());
  }
  PrefillAndDecode(model.get(), limits, sizes, chunk, /*with_dense=*/!gpu);
  model.reset();
  if (gpu) CompareWithLaunched(model_dir, backend);
  const char* commit = argc > 6 ? argv[6] : "";
  WriteResults(argv[3], device, commit);
  for (const int64_t size : sizes) {
    // On a CPU one context, of a length that is prefilled in minutes.
    if (size < 32768 || (!gpu && size > 32768)) continue;
    StoredContext({.data_dir = fmt::format("{}/stored_{}", scratch, size),
                   .model_dir = model_dir,
                   .pool_bytes = int64_t{gpu ? 8 : 2} << 30,
                   .device = gpu ? ComputeDevice::kCuda : ComputeDevice::kCpu},
                  size);
    WriteResults(argv[3], device, commit);
  }
  return 0;
}

}  // namespace
}  // namespace lectern::engine

int main(int argc, char** argv) { return lectern::engine::Main(argc, argv); }
