// The whole engine on a device that is the host: what it stores and answers is what it stores and
// answers on the CPU, in every order of the two, through restarts, sessions and a small cache.
#include <gtest/gtest.h>

#include <future>

#include "engine/error/error.h"
#include "engine/local_engine.h"
#include "tests/engine/device/host_device.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::IngestAndWait;
using testing::RandomText;
using testing::RetrieveAndWait;
using testing::StoredCacheDigest;
using testing::TemporaryDirectory;
using testing::Upload;

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};

absl::StatusOr<std::unique_ptr<Device>> OpenHost() {
  return std::make_unique<HostDevice>(int64_t{64} << 30);
}

class DeviceEngineTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TemporaryDirectory();
    testing::WriteRandomModel({.layers = 4,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = 64,
                               .index_dim = 64,
                               .rotary_dim = 32,
                               .max_positions = 1 << 15},
                              model_->path());
  }
  static void TearDownTestSuite() { delete model_; }

  // device_memory: 0: the least that will do, and so much more.
  static EngineOptions Options(const std::string& data_dir, ComputeDevice device) {
    return {.data_dir = data_dir,
            .model_dir = model_->path(),
            .pool_bytes = 64 << 20,
            .index_bytes = 64 << 20,
            .device = device,
            .prefill_chunk_tokens = 512,
            .batch_limit = 4};
  }
  static std::unique_ptr<LocalEngine> Open(EngineOptions options, int64_t spare_bytes) {
    if (options.device != ComputeDevice::kCpu) {
      options.device_memory_bytes = 1;
      const auto refused = LocalEngine::Open(options, OpenHost);
      EXPECT_EQ(ReasonOf(refused.status()), "DEVICE_MEMORY_TOO_SMALL") << refused.status();
      options.device_memory_bytes =
          std::stoll(MetadataOf(refused.status())["needed_bytes"]) + spare_bytes;
    }
    auto engine = LocalEngine::Open(options, OpenHost);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  static std::unique_ptr<LocalEngine> OnDevice(const std::string& data_dir,
                                               int64_t spare_bytes = int64_t{64} << 20) {
    return Open(Options(data_dir, ComputeDevice::kCuda), spare_bytes);
  }
  static std::unique_ptr<LocalEngine> OnCpu(const std::string& data_dir) {
    return Open(Options(data_dir, ComputeDevice::kCpu), 0);
  }
  static void UploadAll(Engine& engine) {
    Upload(engine, kCorpus, "a", RandomText(2200, 1));
    Upload(engine, kCorpus, "b", RandomText(300, 2));
    const Operation operation = IngestAndWait(engine, kCorpus);
    ASSERT_TRUE(operation.error.ok()) << operation.error;
    EXPECT_GT(operation.tokens_total, 2300) << "selection must be at work";
  }
  static Answer Ask(Engine& engine, const std::string& question, const std::string& session = "",
                    double adaptive_coverage = 0) {
    AskRequest request = {.target = {.corpus = kCorpus}, .question = question, .max_tokens = 12};
    request.target.session = session;
    request.adaptive_coverage = adaptive_coverage;
    auto answer = AskAndWait(engine, request);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *answer : Answer{};
  }
  static void ExpectSame(const Answer& mine, const Answer& theirs) {
    EXPECT_EQ(mine.text, theirs.text);
    EXPECT_EQ(mine.usage.generated_tokens, theirs.usage.generated_tokens);
    EXPECT_EQ(mine.usage.selections, theirs.usage.selections);
    EXPECT_EQ(mine.usage.selected_blocks, theirs.usage.selected_blocks);
    EXPECT_EQ(mine.usage.widened_selections, theirs.usage.widened_selections);
    EXPECT_NEAR(mine.coverage.mean, theirs.coverage.mean, 1e-5);
    ASSERT_EQ(mine.evidence.size(), theirs.evidence.size());
    for (size_t i = 0; i < theirs.evidence.size(); ++i) {
      EXPECT_EQ(mine.evidence[i].document, theirs.evidence[i].document);
      EXPECT_EQ(mine.evidence[i].byte_begin, theirs.evidence[i].byte_begin);
      EXPECT_EQ(mine.evidence[i].byte_end, theirs.evidence[i].byte_end);
      EXPECT_EQ(mine.evidence[i].mass, theirs.evidence[i].mass);
    }
  }

  static TemporaryDirectory* model_;
};
TemporaryDirectory* DeviceEngineTest::model_ = nullptr;

TEST_F(DeviceEngineTest, StoresAndAnswersAsOnTheCpu) {
  TemporaryDirectory device_data, cpu_data;
  Answer plain, wide;
  {
    const auto cpu = OnCpu(cpu_data.path());
    UploadAll(*cpu);
    plain = Ask(*cpu, "what is it?");
    wide = Ask(*cpu, "who wrote that?", "", 0.97);
    EXPECT_GT(wide.usage.widened_selections, 0);
    const auto device = OnDevice(device_data.path());
    EXPECT_EQ(device->GetModel().device, "the host as a device");
    EXPECT_GT(device->GetModel().device_context_tokens, 0);
    EXPECT_NE(device->GetModel().backend, cpu->GetModel().backend);
    EXPECT_EQ(device->GetModel().fingerprint, cpu->GetModel().fingerprint);
    UploadAll(*device);
    ExpectSame(Ask(*device, "what is it?"), plain);
    ExpectSame(Ask(*device, "who wrote that?", "", 0.97), wide);
    const Answer again = Ask(*device, "what is it?");
    ExpectSame(again, plain);
    const Stats stats = *device->GetStats();
    EXPECT_GT(stats.device_pages_used, 0);
    EXPECT_GT(stats.device_replayed_steps, 0);
    EXPECT_GT(stats.device_launched_steps, 0) << "the first of each form";
    // Ingested here, so its keys and values are here: only the partial last block, which every
    // question copies for itself, came from memory.
    EXPECT_LT(again.usage.device_bytes, int64_t{1} << 20);
  }
  EXPECT_EQ(StoredCacheDigest(device_data.path(), kCorpus.corpus),
            StoredCacheDigest(cpu_data.path(), kCorpus.corpus));
  {
    // What the one stored the other opens, without prefill.
    const auto cpu = OnCpu(device_data.path());
    ExpectSame(Ask(*cpu, "what is it?"), plain);
    EXPECT_EQ(cpu->GetStats()->corpus_prefill_tokens, 0);
    const auto device = OnDevice(cpu_data.path());
    const Answer cold = Ask(*device, "what is it?");
    ExpectSame(cold, plain);
    ExpectSame(Ask(*device, "who wrote that?", "", 0.97), wide);
    EXPECT_EQ(device->GetStats()->corpus_prefill_tokens, 0);
    EXPECT_GT(cold.usage.device_bytes, 0);
    EXPECT_GT(cold.usage.disk_bytes, 0);
    EXPECT_GT(device->GetStats()->device_page_misses, 0);
  }
}

TEST_F(DeviceEngineTest, SessionsContinueHereAndThere) {
  TemporaryDirectory device_data, cpu_data;
  std::vector<Answer> expected;
  const std::vector<std::string> questions = {"what is it?", "and then?", "who was there?",
                                              "what did they say?"};
  {
    const auto cpu = OnCpu(cpu_data.path());
    UploadAll(*cpu);
    ASSERT_TRUE(cpu->CreateSession({.corpus = kCorpus, .id = "s"}, "", 0, std::nullopt).ok());
    for (const std::string& question : questions) expected.push_back(Ask(*cpu, question, "s"));
  }
  for (size_t turn = 0; turn < questions.size(); ++turn) {
    // A restart between any two turns, the third on the CPU, the last in a cache of the least size.
    const auto engine = turn == 2                     ? OnCpu(device_data.path())
                        : turn + 1 < questions.size() ? OnDevice(device_data.path())
                                                      : OnDevice(device_data.path(), 0);
    if (turn == 0) {
      UploadAll(*engine);
      ASSERT_TRUE(engine->CreateSession({.corpus = kCorpus, .id = "s"}, "", 0, std::nullopt).ok());
    }
    ExpectSame(Ask(*engine, questions[turn], "s"), expected[turn]);
  }
}

TEST_F(DeviceEngineTest, ManyAskAtOnceInASmallCache) {
  TemporaryDirectory data;
  Answer expected;
  {
    const auto cpu = OnCpu(data.path());
    UploadAll(*cpu);
    expected = Ask(*cpu, "what is it?");
  }
  const auto engine = OnDevice(data.path(), 0);
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 6; ++i) {
    answers.push_back(std::async(std::launch::async, [&] { return Ask(*engine, "what is it?"); }));
  }
  for (auto& answer : answers) ExpectSame(answer.get(), expected);
}

// Answers that begin and end at any time: most steps have the form of an earlier one.
TEST_F(DeviceEngineTest, BatchesWhoseMembersComeAndGoAreReplayed) {
  TemporaryDirectory data;
  const auto engine = OnDevice(data.path());
  UploadAll(*engine);
  const Answer expected = Ask(*engine, "what is it?");
  std::vector<std::future<void>> askers;
  for (int i = 0; i < 6; ++i) {
    askers.push_back(std::async(std::launch::async, [&] {
      for (int turn = 0; turn < 3; ++turn) ExpectSame(Ask(*engine, "what is it?"), expected);
    }));
  }
  for (auto& asker : askers) asker.get();
  const Stats stats = *engine->GetStats();
  std::printf("%lld steps replayed, %lld launched\n",
              static_cast<long long>(stats.device_replayed_steps),
              static_cast<long long>(stats.device_launched_steps));
  EXPECT_GT(stats.device_replayed_steps, 2 * stats.device_launched_steps);
}

TEST_F(DeviceEngineTest, WithoutGraphsTheAnswersAreTheSame) {
  TemporaryDirectory data;
  EngineOptions options = Options(data.path(), ComputeDevice::kCuda);
  Answer expected;
  for (const bool graphs : {true, false}) {
    options.device_graphs = graphs;
    const auto engine = Open(options, int64_t{64} << 20);
    if (graphs) UploadAll(*engine);
    const Answer answer = Ask(*engine, "what is it?");
    if (graphs) expected = answer;
    ExpectSame(answer, expected);
    if (!graphs) {
      EXPECT_EQ(engine->GetStats()->device_replayed_steps, 0);
    }
  }
}

// Guesses at the tokens to come: the same with them and without, here and on the CPU, in a session
// that grows over the borders of blocks, in a cache of the least size.
TEST_F(DeviceEngineTest, GuessesDoNotShow) {
  TemporaryDirectory data;
  EngineOptions cpu = Options(data.path(), ComputeDevice::kCpu);
  cpu.drafts = false;
  std::vector<Answer> expected;
  const auto ask = [&](Engine& engine, const std::string& session, int turn) {
    AskRequest request = {.target = {.corpus = kCorpus},
                          .question = "what is it, for the " + std::to_string(turn) + "th time?",
                          .max_tokens = 90};
    request.target.session = session;
    auto answer = AskAndWait(engine, request);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return *std::move(answer);
  };
  {
    const auto engine = Open(cpu, 0);
    UploadAll(*engine);
    ASSERT_TRUE(engine->CreateSession({.corpus = kCorpus, .id = "cpu"}, "", 0, std::nullopt).ok());
    for (int turn = 0; turn < 3; ++turn) expected.push_back(ask(*engine, "cpu", turn));
    EXPECT_EQ(engine->GetStats()->drafted_tokens, 0);
  }
  int64_t drafted = 0, accepted = 0;
  for (const int64_t spare_bytes : {int64_t{64} << 20, int64_t{0}}) {
    const std::string session = spare_bytes == 0 ? "small" : "large";
    const auto engine = OnDevice(data.path(), spare_bytes);
    ASSERT_TRUE(
        engine->CreateSession({.corpus = kCorpus, .id = session}, "", 0, std::nullopt).ok());
    for (int turn = 0; turn < 3; ++turn) ExpectSame(ask(*engine, session, turn), expected[turn]);
    const Stats stats = *engine->GetStats();
    drafted += stats.drafted_tokens;
    accepted += stats.accepted_tokens;
  }
  EXPECT_GT(drafted, accepted) << "some must be taken back";
}

// A step that the device has no memory for with guesses is taken without them.
TEST_F(DeviceEngineTest, AnAnswerOutlivesItsGuesses) {
  TemporaryDirectory data;
  Answer expected;
  const AskRequest request = {
      .target = {.corpus = kCorpus}, .question = "what is it?", .max_tokens = 90};
  {
    const auto cpu = OnCpu(data.path());
    UploadAll(*cpu);
    expected = *AskAndWait(*cpu, request);
    ASSERT_GT(expected.usage.drafted_tokens, 0);
  }
  HostDevice* host = nullptr;
  EngineOptions options = Options(data.path(), ComputeDevice::kCuda);
  options.device_memory_bytes = int64_t{1} << 30;
  auto engine = LocalEngine::Open(options, [&]() -> absl::StatusOr<std::unique_ptr<Device>> {
    auto device = std::make_unique<HostDevice>(int64_t{64} << 30);
    host = device.get();
    return device;
  });
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::promise<absl::StatusOr<Answer>> done;
  bool armed = false;
  // Between two steps: the first that holds guesses is the first to allocate.
  auto ticket =
      (*engine)->Ask(request, {.text =
                                   [&](std::string_view) {
                                     if (!std::exchange(armed, true)) host->FailAtAllocate(1);
                                   },
                               .done = [&](absl::StatusOr<Answer> a) { done.set_value(a); }});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  const absl::StatusOr<Answer> answer = done.get_future().get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  ExpectSame(*answer, expected);
  EXPECT_EQ(answer->usage.drafted_tokens, 0) << "none was computed";
}

TEST_F(DeviceEngineTest, SaysWhyItIsNotTheDevice) {
  const auto none = []() -> absl::StatusOr<std::unique_ptr<Device>> {
    return Error(absl::StatusCode::kUnavailable, "NO_GPU", "no GPU can be used here: it is a test");
  };
  const auto refused = LocalEngine::Open(Options("", ComputeDevice::kCuda), none);
  EXPECT_EQ(ReasonOf(refused.status()), "NO_GPU");
  const auto fallen_back = LocalEngine::Open(Options("", ComputeDevice::kAuto), none);
  ASSERT_TRUE(fallen_back.ok()) << fallen_back.status();
  EXPECT_EQ((*fallen_back)->GetModel().device, "");
  EXPECT_EQ((*fallen_back)->GetModel().device_note, "no GPU can be used here: it is a test");

  EngineOptions dense = Options("", ComputeDevice::kCuda);
  dense.attention = AttentionMode::kDense;
  EXPECT_EQ(ReasonOf(LocalEngine::Open(dense, OpenHost).status()), "DEVICE_UNSUPPORTED");
  dense.device = ComputeDevice::kAuto;
  const auto on_cpu = LocalEngine::Open(dense, OpenHost);
  ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
  EXPECT_NE((*on_cpu)->GetModel().device_note, "");
}

}  // namespace
}  // namespace lectern::engine
