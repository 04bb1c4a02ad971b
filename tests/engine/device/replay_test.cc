// Decode steps that are replayed: their calls are the same from step to step, and what they leave
// is what steps leave that are launched call by call, bit for bit. On the host as a device
// everywhere, on a GPU with real graphs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/device/device_calls.h"
#include "engine/error/error.h"
#include "tests/engine/device/decoder_case.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace lectern::engine {
namespace {

constexpr int kSteps = 20;

struct Where {
  std::string name, model;
  bool gpu;
};
void PrintTo(const Where& where, std::ostream* out) { *out << where.name; }

// What the decode rows ask for.
struct Asking {
  bool observed = false;
  float widen_below = 0;
  bool by_turns = false;  // in every step of some rows only
};

// What a number of decode steps left.
struct Decoded {
  std::vector<std::vector<float>> logits;                              // [steps * contexts]
  std::vector<std::map<std::pair<int, int32_t>, Recorder::Row>> seen;  // [contexts]
  std::vector<std::vector<std::byte>> bytes;                           // likewise
  std::vector<std::vector<DeviceCall>> calls;                          // [steps], on the host
};

class ReplayTest : public ::testing::TestWithParam<Where> {
 protected:
  void SetUp() override {
    std::string model = GetParam().model;
    if (model == "random") {
      model = folder_ / "model";
      lectern::testing::WriteRandomModel({.layers = 2,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 64,
                                          .index_dim = 64,
                                          .rotary_dim = 32,
                                          .max_positions = 1 << 15},
                                         model);
    }
    case_ = std::make_unique<DecoderCase>(model, 16384);
    replaying_ = Make(true, &host_);
    if (replaying_ == nullptr) GTEST_SKIP() << "no GPU can be used here";
    launching_ = Make(false, nullptr);
    ASSERT_NE(launching_, nullptr);
    std::mt19937 random(7);
    for (int i = 0; i < 9000; ++i) {
      tokens_.push_back(static_cast<int32_t>(
          8 + random() % static_cast<uint32_t>(std::min(500, case_->config().vocab_size - 8))));
    }
  }

  std::unique_ptr<DeviceDecoder> Make(bool replay, HostDevice** host) const {
    const auto open = [&](const DeviceDecoderOptions& sizes, HostDevice** device) {
      return GetParam().gpu ? case_->OnGpu(sizes) : case_->OnHost(sizes, device);
    };
    const auto refused = open({.memory_bytes = 1, .step_tokens = 1024}, nullptr).status();
    if (ReasonOf(refused) == "NO_GPU") return nullptr;
    EXPECT_EQ(ReasonOf(refused), "DEVICE_MEMORY_TOO_SMALL") << refused;
    auto made = open(
        {.memory_bytes = std::stoll(MetadataOf(refused)["needed_bytes"]) + (int64_t{300} << 20),
         .step_tokens = 1024,
         .replay = replay},
        host);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  // Contexts of these lengths, all of them in whole on the device.
  std::vector<std::unique_ptr<Context>> Prefilled(Decoder& decoder,
                                                  const std::vector<int64_t>& lengths) {
    std::vector<std::unique_ptr<Context>> contexts;
    for (const int64_t length : lengths) {
      contexts.push_back(case_->Open());
      DecoderCase::Prefill(decoder, contexts.back().get(),
                           std::span(tokens_).first(static_cast<size_t>(length)), {1024});
    }
    return contexts;
  }

  Decoded Decode(Decoder& decoder, const std::vector<int64_t>& lengths, const Asking& asking,
                 HostDevice* host) {
    const auto contexts = Prefilled(decoder, lengths);
    const size_t count = contexts.size();
    Decoded decoded;
    std::vector<Recorder> recorders(count);
    for (int step = 0; step < kSteps; ++step) {
      std::vector<StepSegment> segments;
      for (size_t i = 0; i < count; ++i) {
        EXPECT_TRUE(contexts[i]->Reserve(1).ok());
        recorders[i].group = case_->config().group_size();
        const size_t turn = asking.by_turns ? i + step : 1;
        segments.push_back(
            {.context = contexts[i].get(),
             .tokens = std::span(tokens_).subspan(100 * i + step, 1),
             .tiled = false,
             .logit_rows = turn % 4 != 0 ? 1 : 0,
             .widen_below = asking.widen_below,
             .observer = asking.observed && turn % 3 != 0 ? &recorders[i] : nullptr});
      }
      // Whose row is where is no part of a step's form.
      std::rotate(segments.begin(), segments.begin() + step % static_cast<int>(count),
                  segments.end());
      const int64_t waits = host != nullptr ? host->synchronizations() : 0;
      const std::vector<SegmentResult> results = decoder.Step(segments);
      if (host != nullptr) {
        EXPECT_EQ(host->synchronizations(), waits + 1);
      }
      for (size_t i = 0; i < count; ++i) {
        EXPECT_TRUE(results[i].status.ok()) << results[i].status;
        decoded.logits.push_back(results[i].logits);
      }
      if (host != nullptr) decoded.calls.push_back(host->held());
    }
    for (size_t i = 0; i < count; ++i) {
      decoded.seen.push_back(recorders[i].rows);
      decoded.bytes.push_back(DecoderCase::Bytes(*contexts[i], *case_->memory()));
    }
    return decoded;
  }

  static void ExpectSame(const Decoded& a, const Decoded& b) {
    EXPECT_TRUE(a.logits == b.logits);
    EXPECT_TRUE(a.bytes == b.bytes);
    ASSERT_EQ(a.seen.size(), b.seen.size());
    for (size_t i = 0; i < a.seen.size(); ++i) {
      ASSERT_EQ(a.seen[i].size(), b.seen[i].size());
      for (const auto& [key, row] : b.seen[i]) {
        const Recorder::Row& found = a.seen[i].at(key);
        EXPECT_EQ(found.selected, row.selected);
        EXPECT_EQ(found.q, row.q);
        EXPECT_EQ(found.lse, row.lse);
        EXPECT_EQ(found.block_lse, row.block_lse);
        EXPECT_EQ(found.index_lse_visible, row.index_lse_visible);
        EXPECT_EQ(found.index_lse_selected, row.index_lse_selected);
      }
    }
  }

  // Of these contexts decoded together: as launched call by call, all but the first of each form
  // replayed.
  void ExpectReplayed(const std::vector<int64_t>& lengths, const Asking& asking, int forms) {
    const DeviceUse before = *replaying_->device_use();
    const Decoded replayed = Decode(*replaying_, lengths, asking, host_);
    const DeviceUse after = *replaying_->device_use();
    EXPECT_EQ(after.launched_steps - before.launched_steps, forms);
    EXPECT_EQ(after.replayed_steps - before.replayed_steps, kSteps - forms);
    ExpectSame(replayed, Decode(*launching_, lengths, asking, nullptr));
    EXPECT_EQ(launching_->device_use()->replayed_steps, 0);
    int seen = 0;
    for (size_t step = 0; step < replayed.calls.size(); ++step) {
      EXPECT_FALSE(replayed.calls[step].empty());
      if (step == 0 || replayed.calls[step] != replayed.calls[step - 1]) ++seen;
    }
    if (host_ != nullptr) {
      EXPECT_EQ(seen, std::max(forms, 1));
    }
  }

  const lectern::testing::TemporaryDirectory folder_;
  std::unique_ptr<DecoderCase> case_;
  HostDevice* host_ = nullptr;  // below replaying_, unless that is on a GPU
  std::unique_ptr<DeviceDecoder> replaying_, launching_;
  std::vector<int32_t> tokens_;
};

// Contexts that begin a block midway, short and long ones, in any order.
TEST_P(ReplayTest, StepsOfOneBatchAreOneForm) {
  ExpectReplayed({2550}, {}, 1);
  ExpectReplayed({300, 2550, 118}, {}, 1);
  ExpectReplayed({118, 119, 120, 256, 383, 500, 640, 2100}, {}, 1);
}

TEST_P(ReplayTest, SoAreStepsThatAreLookedAt) {
  ExpectReplayed({2550}, {.observed = true}, 1);
  ExpectReplayed({300, 2550, 118}, {.observed = true}, 1);
  ExpectReplayed({118, 119, 120, 256, 383, 500, 640, 2100}, {.observed = true}, 1);
}

TEST_P(ReplayTest, SoAreStepsThatWiden) {
  ExpectReplayed({2550, 2400, 2303}, {.widen_below = 0.9f}, 1);
  ExpectReplayed({2550, 2400, 2303}, {.observed = true, .widen_below = 1.0f}, 1);
}

// Who wants logits and who is looked at is no part of a form; nor is, about, how many there are.
TEST_P(ReplayTest, WhoAsksForWhatMakesNoOtherForm) {
  std::vector<int64_t> lengths = {118, 119, 120, 256, 383, 150, 140, 900, 200};
  ExpectReplayed(lengths, {.by_turns = true}, 1);
  ExpectReplayed(lengths, {.observed = true, .by_turns = true}, 1);
  lengths.push_back(240);
  ExpectReplayed(lengths, {.by_turns = true}, 0);
  ExpectReplayed(lengths, {.observed = true, .by_turns = true}, 0);
}

// The bound of positions moves by 8192 tokens, and what it bounds does not show.
TEST_P(ReplayTest, ABoundThatMovesMakesAnotherForm) {
  ExpectReplayed({8185}, {.observed = true}, 2);
}

// Prefill between decode steps, buffers that grow and contexts that come and go change nothing.
TEST_P(ReplayTest, WhatComesBetweenDoesNotShow) {
  std::vector<Decoded> of_both;
  for (DeviceDecoder* decoder : {replaying_.get(), launching_.get()}) {
    Decoded& decoded = of_both.emplace_back();
    const auto contexts = Prefilled(*decoder, {130, 2550});
    std::unique_ptr<Context> other;
    for (int step = 0; step < kSteps; ++step) {
      if (step % 5 == 2) {
        other = std::move(Prefilled(*decoder, {100 + 150 * step})[0]);
      }
      std::vector<StepSegment> segments;
      for (const auto& context : contexts) {
        ASSERT_TRUE(context->Reserve(2).ok());
        // Two rows of one context now and then.
        segments.push_back({.context = context.get(),
                            .tokens = std::span(tokens_).subspan(step, step % 4 == 3 ? 2 : 1),
                            .tiled = false,
                            .logit_rows = 1});
      }
      for (const SegmentResult& result : decoder->Step(segments)) {
        ASSERT_TRUE(result.status.ok()) << result.status;
        decoded.logits.push_back(result.logits);
      }
    }
    for (const auto& context : contexts) {
      decoded.bytes.push_back(DecoderCase::Bytes(*context, *case_->memory()));
      decoded.seen.emplace_back();
    }
  }
  ExpectSame(of_both[0], of_both[1]);
  EXPECT_GT(replaying_->device_use()->replayed_steps, kSteps / 2);
}

INSTANTIATE_TEST_SUITE_P(Host, ReplayTest, ::testing::Values(Where{"random", "random", false}),
                         [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(Gpu, ReplayTest,
                         ::testing::Values(Where{"random", "random", true},
                                           Where{"bundled", "models/default", true}),
                         [](const auto& info) { return info.param.name; });

DeviceCall Clearing(int64_t bytes) { return ClearCall{.memory = nullptr, .bytes = bytes}; }

TEST(CallHistoryTest, KnowsWhatCameLately) {
  CallHistory<int> history(2);
  const std::vector<DeviceCall> a = {Clearing(1), Clearing(2)}, b = {Clearing(1), Clearing(3)},
                                c = {Clearing(1)};
  EXPECT_EQ(history.Find(a).seen, 1);
  history.Find(a).replay = std::make_unique<int>(7);
  EXPECT_EQ(history.Find(b).seen, 1) << "another";
  ASSERT_EQ(history.Find(a).seen, 3);
  EXPECT_EQ(*history.Find(a).replay, 7);
  EXPECT_EQ(history.Find(c).seen, 1) << "a part of it is another";
  EXPECT_EQ(history.Find(a).seen, 5);
  EXPECT_EQ(history.Find(b).seen, 1) << "used longest ago, and forgotten";
  history.Clear();
  EXPECT_EQ(history.Find(a).seen, 1);
  EXPECT_EQ(history.Find(a).replay, nullptr);
}

// Every parameter counts.
TEST(CallHistoryTest, TellsCallsApart) {
  const int32_t ids[2] = {};
  const kernels::EmbedCudaParams embed = {.ids = ids, .rows = 3, .width = 64};
  kernels::EmbedCudaParams other = embed;
  EXPECT_EQ(DeviceCall(embed), DeviceCall(other));
  other.ids = ids + 1;
  EXPECT_NE(DeviceCall(embed), DeviceCall(other));
  const CopyCall copy = {CopyWay::kToHost, nullptr, ids, 8};
  CopyCall elsewhere = copy;
  elsewhere.way = CopyWay::kToHostMeanwhile;
  EXPECT_NE(DeviceCall(copy), DeviceCall(elsewhere));
  EXPECT_NE(DeviceCall(embed), DeviceCall(copy));
}

}  // namespace
}  // namespace lectern::engine
