// Processes that start, are killed, drain, and fail to start.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <future>
#include <regex>
#include <thread>

#include "tests/e2e/deployment.h"
#include "tests/support/random_model.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using ::testing::HasSubstr;

class LifecycleTest : public ::testing::TestWithParam<Topology> {
 protected:
  std::unique_ptr<Deployment> Start(std::vector<std::string> engine_flags = {},
                                    std::vector<std::string> gateway_flags = {}) {
    return std::make_unique<Deployment>(
        DeploymentOptions{.topology = GetParam(),
                          .data_dir = data_.path(),
                          .model_dir = SmallModel(),
                          .engine_flags = std::move(engine_flags),
                          .gateway_flags = std::move(gateway_flags)});
  }

  static void Fill(Deployment& deployment, int words) {
    ASSERT_TRUE(CreateCorpus(deployment, "c").ok());
    ASSERT_TRUE(Upload(deployment, "c", "a", RandomText(words, 1)).ok());
    v1::Operation operation;
    ASSERT_TRUE(Ingest(deployment, "c", &operation).ok());
    ASSERT_FALSE(operation.has_error()) << operation.error().message();
  }

  static v1::Stats Stats(Deployment& deployment) {
    v1::Stats stats;
    grpc::ClientContext context;
    EXPECT_TRUE(deployment.models().GetStats(&context, {}, &stats).ok());
    return stats;
  }

  TemporaryDirectory data_;
};

// A question that runs until it is cut off.
v1::AskRequest LongQuestion() {
  v1::AskRequest request = Question("c", "Tell me everything.");
  request.set_max_tokens(4096);
  request.mutable_sampling()->set_temperature(2);
  return request;
}

TEST_P(LifecycleTest, KillNineCostsNothing) {
  auto deployment = Start();
  Fill(*deployment, 2500);
  v1::CreateSessionRequest create;
  create.set_parent(CorpusPath("c"));
  create.set_session_id("s");
  v1::Session session;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment->sessions().CreateSession(&context, create, &session).ok());
  v1::AskRequest turn = Question("c", "What is it?");
  turn.set_session(session.name());
  const Asked first_turn = Ask(*deployment, turn);
  ASSERT_TRUE(first_turn.status.ok()) << first_turn.status.error_message();
  v1::GetSessionRequest get;
  get.set_name(session.name());
  grpc::ClientContext get_context;
  ASSERT_TRUE(deployment->sessions().GetSession(&get_context, get, &session).ok());
  const Asked before = Ask(*deployment, Question("c", "Who was there?"));
  ASSERT_TRUE(before.status.ok()) << before.status.error_message();

  // In the midst of an answer.
  grpc::ClientContext running;
  const auto reader = deployment->answers().Ask(&running, LongQuestion());
  v1::AskResponse message;
  ASSERT_TRUE(reader->Read(&message));
  deployment->KillAll();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);

  deployment = Start();
  const Asked after = Ask(*deployment, Question("c", "Who was there?"));
  ASSERT_TRUE(after.status.ok()) << after.status.error_message();
  EXPECT_EQ(after.text, before.text);
  EXPECT_EQ(after.completed.coverage().mean(), before.completed.coverage().mean());
  ASSERT_EQ(after.completed.evidence_size(), before.completed.evidence_size());
  for (int i = 0; i < after.completed.evidence_size(); ++i) {
    EXPECT_EQ(after.completed.evidence(i).SerializeAsString(),
              before.completed.evidence(i).SerializeAsString());
  }
  EXPECT_EQ(after.completed.usage().corpus_prefill_tokens(), 0);
  EXPECT_EQ(after.completed.usage().cached_tokens(), before.completed.usage().cached_tokens());

  turn.set_question("And then?");
  const Asked second_turn = Ask(*deployment, turn);
  ASSERT_TRUE(second_turn.status.ok()) << second_turn.status.error_message();
  EXPECT_EQ(second_turn.completed.turn(), 2);
  EXPECT_EQ(second_turn.completed.usage().cached_tokens(), session.token_count())
      << "the second turn prefills nothing of the first";
  EXPECT_EQ(Stats(*deployment).corpus_prefill_tokens(), 0);
  EXPECT_TRUE(deployment->StopAll());
}

TEST_P(LifecycleTest, AnInterruptedIngestResumes) {
  auto deployment = Start({"--prefill_chunk_tokens=256"});
  ASSERT_TRUE(CreateCorpus(*deployment, "c").ok());
  ASSERT_TRUE(Upload(*deployment, "c", "a", RandomText(20'000, 2)).ok());
  v1::IngestCorpusRequest request;
  request.set_name(CorpusPath("c"));
  v1::Operation operation;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment->corpora().IngestCorpus(&context, request, &operation).ok());
  v1::GetOperationRequest get;
  get.set_name(operation.name());
  while (operation.metadata().tokens_done() < 4096 && !operation.done()) {
    grpc::ClientContext get_context;
    ASSERT_TRUE(deployment->operations().GetOperation(&get_context, get, &operation).ok());
  }
  ASSERT_FALSE(operation.done()) << "the ingest was over before it could be interrupted";
  deployment->KillAll();

  deployment = Start();
  v1::WaitOperationRequest wait;
  wait.set_name(operation.name());
  grpc::ClientContext wait_context;
  ASSERT_TRUE(deployment->operations().WaitOperation(&wait_context, wait, &operation).ok());
  ASSERT_TRUE(operation.done());
  ASSERT_FALSE(operation.has_error()) << operation.error().message();
  EXPECT_EQ(operation.metadata().resumed(), 1);
  EXPECT_LT(Stats(*deployment).corpus_prefill_tokens(), operation.metadata().tokens_total());
  EXPECT_TRUE(Ask(*deployment, Question("c", "What?")).status.ok());
  EXPECT_TRUE(deployment->StopAll());
}

TEST_P(LifecycleTest, ADrainFinishesWhatRunsAndExitsWithZero) {
  auto deployment = Start();
  Fill(*deployment, 500);
  v1::AskRequest request = LongQuestion();
  request.set_max_tokens(400);
  grpc::ClientContext context;
  const auto reader = deployment->answers().Ask(&context, request);
  v1::AskResponse message;
  ASSERT_TRUE(reader->Read(&message));
  deployment->gateway_process().Signal(SIGTERM);
  bool completed = false;
  while (reader->Read(&message)) completed = completed || message.has_completed();
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(completed) << "what ran was cut off";
  EXPECT_EQ(deployment->gateway_process().Wait(), 0);
  EXPECT_TRUE(deployment->StopAll());
}

TEST_P(LifecycleTest, HealthSaysNotServingWhileDraining) {
  auto deployment = Start();
  Fill(*deployment, 500);
  grpc::ClientContext context;
  const auto reader = deployment->answers().Ask(&context, LongQuestion());
  v1::AskResponse message;
  ASSERT_TRUE(reader->Read(&message));
  grpc::ClientContext watch_context;
  const auto watch = deployment->health().Watch(&watch_context, {});
  grpc::health::v1::HealthCheckResponse health;
  ASSERT_TRUE(watch->Read(&health));
  ASSERT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  deployment->gateway_process().Signal(SIGTERM);
  ASSERT_TRUE(watch->Read(&health));
  EXPECT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  // Health says so first, then the door closes: a call that comes in between is still served.
  grpc::Status late;
  for (int i = 0; late.ok() && i < 100; ++i) {
    late = CreateCorpus(*deployment, "late" + std::to_string(i));
  }
  EXPECT_EQ(late.error_code(), grpc::StatusCode::UNAVAILABLE);
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  reader->Finish();
  EXPECT_EQ(deployment->gateway_process().Wait(), 0);
}

TEST_P(LifecycleTest, ADrainEndsWhatTakesTooLong) {
  auto deployment =
      Start({"--drain_seconds=0"}, GetParam() == Topology::kServe
                                       ? std::vector<std::string>{}
                                       : std::vector<std::string>{"--drain_seconds=0"});
  Fill(*deployment, 500);
  grpc::ClientContext context;
  const auto reader = deployment->answers().Ask(&context, LongQuestion());
  v1::AskResponse message;
  ASSERT_TRUE(reader->Read(&message));
  deployment->gateway_process().Signal(SIGTERM);
  bool completed = false;
  while (reader->Read(&message)) completed = completed || message.has_completed();
  EXPECT_FALSE(completed && reader->Finish().ok() &&
               message.completed().finish_reason() == v1::MAX_TOKENS);
  EXPECT_EQ(deployment->gateway_process().Wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Topologies, LifecycleTest,
                         ::testing::Values(Topology::kServe, Topology::kSplit),
                         [](const auto& info) {
                           return info.param == Topology::kServe ? "Serve" : "Split";
                         });

TEST(SplitDeployment, AGatewayOutlivesItsWorker) {
  TemporaryDirectory data;
  Deployment deployment(
      {.topology = Topology::kSplit, .data_dir = data.path(), .model_dir = SmallModel()});
  deployment.engine_process().Signal(SIGKILL);
  deployment.engine_process().Wait();
  const grpc::Status status = CreateCorpus(deployment, "c");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Reason(status), "WORKER_UNREACHABLE");
  while (Fetch(deployment.metrics_address(), "/healthz").status == 200) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(Fetch(deployment.metrics_address(), "/healthz").status, 503);
}

// ---- what must not start ----

class FailedStart : public ::testing::Test {
 protected:
  Finished Serve(const std::vector<std::string>& flags) {
    std::vector<std::string> command = {Program("lectern"), "serve", "--listen=127.0.0.1:0",
                                        "--metrics_listen=127.0.0.1:0"};
    command.insert(command.end(), flags.begin(), flags.end());
    return RunCommand(command);
  }
  // One line that names the reason, and an exit code that is not 0.
  void ExpectRefusal(const Finished& finished, const std::string& reason,
                     const std::string& mentions = "") {
    EXPECT_EQ(finished.code, 1);
    EXPECT_EQ(finished.output, "");
    EXPECT_EQ(std::count(finished.errors.begin(), finished.errors.end(), '\n'), 1)
        << finished.errors;
    EXPECT_THAT(finished.errors, HasSubstr("[" + reason + "]"));
    EXPECT_THAT(finished.errors, HasSubstr(mentions));
  }
  std::string DataDir() { return "--data_dir=" + data_.path(); }

  TemporaryDirectory data_;
};

TEST_F(FailedStart, PortInUse) {
  TemporaryDirectory other;
  Deployment deployment({.data_dir = other.path(), .model_dir = SmallModel()});
  ExpectRefusal(
      Serve({DataDir(), "--model_dir=" + SmallModel(), "--listen=" + deployment.address()}),
      "LISTEN_FAILED", "in use");
  ExpectRefusal(Serve({DataDir(), "--model_dir=" + SmallModel(),
                       "--metrics_listen=" + deployment.metrics_address()}),
                "LISTEN_FAILED", deployment.metrics_address());
}

TEST_F(FailedStart, DataDirInUse) {
  Deployment deployment({.data_dir = data_.path(), .model_dir = SmallModel()});
  ExpectRefusal(Serve({DataDir(), "--model_dir=" + SmallModel()}), "DATA_DIR_LOCKED", data_.path());
}

TEST_F(FailedStart, DataDirOfSomethingElse) {
  std::ofstream(data_ / "holiday.jpg") << "not ours";
  ExpectRefusal(Serve({DataDir(), "--model_dir=" + SmallModel()}), "DATA_DIR_FOREIGN",
                data_.path());
}

TEST_F(FailedStart, NoModel) {
  const Finished finished = Serve({DataDir(), "--model_dir=" + data_ / "nothing"});
  EXPECT_EQ(finished.code, 1);
  EXPECT_THAT(finished.errors, HasSubstr("nothing"));
  EXPECT_EQ(std::count(finished.errors.begin(), finished.errors.end(), '\n'), 1);
}

class BrokenModel : public FailedStart {
 protected:
  void SetUp() override { WriteRandomModel({}, model_.path()); }
  std::string ReadModelFile(const std::string& name) {
    std::ostringstream text;
    text << std::ifstream(model_ / name, std::ios::binary).rdbuf();
    return text.str();
  }
  void WriteModelFile(const std::string& name, const std::string& bytes) {
    std::ofstream(model_ / name, std::ios::binary | std::ios::trunc) << bytes;
  }
  Finished ServeIt() { return Serve({DataDir(), "--model_dir=" + model_.path()}); }
  void ExpectClearRefusal(const Finished& finished, const std::string& mentions) {
    EXPECT_EQ(finished.code, 1) << finished.errors;
    EXPECT_EQ(std::count(finished.errors.begin(), finished.errors.end(), '\n'), 1)
        << finished.errors;
    EXPECT_THAT(finished.errors, HasSubstr(mentions));
    EXPECT_TRUE(std::regex_search(finished.errors, std::regex("\\[[A-Z0-9_]+\\]\n$")))
        << finished.errors;
  }

  TemporaryDirectory model_;
};

TEST_F(BrokenModel, TruncatedWeights) {
  const std::string bytes = ReadModelFile("model.safetensors");
  WriteModelFile("model.safetensors", bytes.substr(0, bytes.size() / 2));
  ExpectClearRefusal(ServeIt(), "model.safetensors");
}

TEST_F(BrokenModel, GarbageConfiguration) {
  WriteModelFile("config.json", "{\"model_type\": ");
  ExpectClearRefusal(ServeIt(), "config.json");
}

TEST_F(BrokenModel, WrongShape) {
  std::string config = ReadModelFile("config.json");
  config = std::regex_replace(config, std::regex("\"intermediate_size\": *[0-9]+"),
                              "\"intermediate_size\": 160");
  WriteModelFile("config.json", config);
  ExpectClearRefusal(ServeIt(), "mlp");
}

TEST_F(BrokenModel, MissingTensor) {
  std::string config = ReadModelFile("config.json");
  config = std::regex_replace(config, std::regex("\"num_hidden_layers\": *[0-9]+"),
                              "\"num_hidden_layers\": 3");
  config = std::regex_replace(config, std::regex("\"sparse_attention_freq\": *\\[[^\\]]*\\]"),
                              "\"sparse_attention_freq\": [1, 1, 1]");
  WriteModelFile("config.json", config);
  ExpectClearRefusal(ServeIt(), "layers.2");
}

TEST_F(FailedStart, NonsenseFlags) {
  EXPECT_EQ(Serve({"--no-such-flag"}).code, 2);
  EXPECT_EQ(Serve({"--pool_bytes=lots"}).code, 2);
  const std::string model = "--model_dir=" + SmallModel();
  ExpectRefusal(Serve({DataDir(), model, "--attention=some"}), "FLAG_INVALID", "sparse or dense");
  ExpectRefusal(Serve({DataDir(), model, "--batch_limit=0"}), "FLAG_INVALID", "batch_limit");
  ExpectRefusal(Serve({DataDir(), model, "--pool_bytes=1KiB"}), "OPTION_INVALID", "pool_bytes");
}

TEST(OtherModel, GenerationsOfAnotherModelSaySo) {
  TemporaryDirectory data;
  {
    Deployment deployment({.data_dir = data.path(), .model_dir = SmallModel()});
    ASSERT_TRUE(CreateCorpus(deployment, "c").ok());
    ASSERT_TRUE(Upload(deployment, "c", "a", RandomText(300, 1)).ok());
    v1::Operation operation;
    ASSERT_TRUE(Ingest(deployment, "c", &operation).ok());
    EXPECT_TRUE(deployment.StopAll());
  }
  TemporaryDirectory other;
  WriteRandomModel({.seed = 2}, other.path());
  Deployment deployment({.data_dir = data.path(), .model_dir = other.path()});
  const grpc::Status status = Ask(deployment, Question("c", "?")).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Reason(status), "MODEL_MISMATCH");
  v1::Operation operation;
  ASSERT_TRUE(Ingest(deployment, "c", &operation).ok()) << "the documents are still there";
  EXPECT_FALSE(operation.has_error());
  EXPECT_TRUE(Ask(deployment, Question("c", "?")).status.ok());
}

}  // namespace
}  // namespace lectern::testing
