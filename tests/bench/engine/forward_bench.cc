#include "forward_bench.h"

#include <algorithm>
#include <random>

#include "engine/kv/context.h"
#include "engine/model/cpu_decoder.h"
#include "storage/store.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

constexpr int kDecodeSteps = 33;
constexpr int32_t kStepRows[] = {2, 4, 8, 16, 32};

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
                      const std::vector<double>& sparse_seconds, BenchReport* report) {
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
    report->Add({"decode_sparse_speedup", sizes[i], sparse_seconds[i] * 1e3, "ms",
                 fmt::format("{:.3f} ms: the same weights, --attention=dense", step * 1e3),
                 step / sparse_seconds[i]});
  }
}

class NobodyLooks final : public AttentionObserver {
  absl::Status OnLayer(const LayerObservation&) override { return absl::OkStatus(); }
};

}  // namespace

void PrefillAndDecode(ServingModel* model, const Limits& limits, const std::vector<int64_t>& sizes,
                      int64_t chunk, bool with_dense, BenchReport* report) {
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
    report->Add({"prefill", sizes[next], static_cast<double>(done) / seconds, "tokens/s",
                 fmt::format("{:.0f} of the {:.0f} GFLOP/s of {}", flops / seconds / 1e9,
                             limits.flops / 1e9, limits.multiplies),
                 flops / seconds / limits.flops});
    const double step =
        MedianDecodeStep(&model->decoder(), context.get(), tokens[static_cast<size_t>(done - 1)]);
    const double floor = work.DecodeBytes(done, /*dense=*/false) / limits.bytes;
    report->Add({"step_over_floor", sizes[next], step * 1e3, "ms",
                 fmt::format("{:.3f} ms: bytes over {:.1f} GB/s ({})", floor * 1e3,
                             limits.bytes / 1e9, limits.moves),
                 step / floor});
    decode_seconds.push_back(step);
    for (const int32_t rows : kStepRows) {
      const double several = MedianDecodeStep(&model->decoder(), context.get(),
                                              tokens[static_cast<size_t>(done - 1)], rows);
      report->Add({fmt::format("decode_rows_{}", rows), sizes[next], several * 1e3, "ms",
                   fmt::format("{:.3f} ms: one row", step * 1e3), several / step});
    }
    ++next;
  }
  context.reset();
  if (with_dense) CompareWithDense(model, sizes, blocks, decode_seconds, report);
}

void CompareWithLaunched(const std::string& model_dir, BackendOptions backend,
                         BenchReport* report) {
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
    report->Add({i % 2 == 0 ? "decode_replayed" : "decode_replayed_observed", kCounts[i / 2],
                 replayed[i] * 1e3, "ms", fmt::format("{:.3f} ms: call by call", launched[i] * 1e3),
                 launched[i] / replayed[i]});
  }
}

}  // namespace lectern::engine
