// Gateway and worker around a scripted engine: relays, errors, cancellation, uploads that are cut
// off, waits, limits, drains. Every test runs with the worker in-process and across TCP.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "engine/error/error.h"
#include "lectern/v1/answers.grpc.pb.h"
#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/models.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/sessions.grpc.pb.h"
#include "services/cluster/local_directory.h"
#include "services/cluster/worker_channel.h"
#include "services/gateway/gateway_server.h"
#include "services/rpc/call.h"
#include "services/rpc/errors.h"
#include "services/worker/engine_collector.h"
#include "services/worker/worker_server.h"
#include "tests/services/scripted_engine.h"

namespace lectern::services {
namespace {

using ::testing::ElementsAre;
using testing::ScriptedEngine;

constexpr char kCorpus[] = "tenants/default/corpora/c";

// Everybody is the default tenant.
CallerSecurity NoSecurity() {
  return {grpc::InsecureServerCredentials(), nullptr, *AuditLog::Open("")};
}

enum class Topology { kInProcess, kAcrossTcp };

class RelayTest : public ::testing::TestWithParam<Topology> {
 protected:
  void SetUp() override { Start({}, 64); }

  void Start(const WorkerService::Options& worker_options, int gateway_calls) {
    gateway_.reset();
    router_.reset();
    worker_.reset();
    const bool tcp = GetParam() == Topology::kAcrossTcp;
    auto worker = WorkerServer::Start(tcp ? "127.0.0.1:0" : "", grpc::InsecureServerCredentials(),
                                      engine_, nullptr, worker_options);
    ASSERT_TRUE(worker.ok()) << worker.status();
    worker_ = *std::move(worker);
    router_ = std::make_unique<Router>(
        directory_, Router::Options{.connect = [this, tcp](const std::string&) {
          return tcp ? ConnectToWorker(worker_->address(), grpc::InsecureChannelCredentials())
                     : worker_->InProcessChannel();
        }});
    auto gateway =
        GatewayServer::Start({"127.0.0.1:0", gateway_calls, NoSecurity()}, *router_, metrics_);
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    if (tcp) {
      gateway_->FollowWorkers();
      while (!gateway_->serving()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else {
      gateway_->SetServing(true);
    }
    channel_ = grpc::CreateChannel(gateway_->address(), grpc::InsecureChannelCredentials());
    corpora_ = v1::Corpora::NewStub(channel_);
    documents_ = v1::Documents::NewStub(channel_);
    operations_ = v1::Operations::NewStub(channel_);
    answers_ = v1::Answers::NewStub(channel_);
  }

  void TearDown() override {
    engine_.Drain(0);
    gateway_.reset();
    router_.reset();
    worker_.reset();
  }

  grpc::Status GetCorpus(const std::string& name, grpc::ClientContext& context) {
    v1::GetCorpusRequest request;
    request.set_name(name);
    return corpora_->GetCorpus(&context, request, &corpus_);
  }
  grpc::Status GetCorpus(const std::string& name) {
    grpc::ClientContext context;
    return GetCorpus(name, context);
  }

  static v1::AskRequest Question(const std::string& text) {
    v1::AskRequest request;
    request.set_corpus(kCorpus);
    request.set_question(text);
    return request;
  }

  static v1::UploadDocumentRequest Header(const std::string& id) {
    v1::UploadDocumentRequest message;
    message.mutable_header()->set_parent(kCorpus);
    message.mutable_header()->set_document_id(id);
    return message;
  }
  static v1::UploadDocumentRequest Data(const std::string& bytes) {
    v1::UploadDocumentRequest message;
    message.set_data(bytes);
    return message;
  }

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  CallMetrics metrics_{*registry_, "gateway", "test", {}};
  ScriptedEngine engine_;
  std::unique_ptr<WorkerServer> worker_;
  LocalDirectory directory_{{.name = "local"}};
  std::unique_ptr<Router> router_;
  std::unique_ptr<GatewayServer> gateway_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Corpora::Stub> corpora_;
  std::unique_ptr<v1::Documents::Stub> documents_;
  std::unique_ptr<v1::Operations::Stub> operations_;
  std::unique_ptr<v1::Answers::Stub> answers_;
  v1::Corpus corpus_;
};

std::string RequestIdIn(const grpc::ClientContext& context) {
  const auto found = context.GetServerInitialMetadata().find(kRequestIdHeader);
  if (found == context.GetServerInitialMetadata().end()) return "";
  return {found->second.data(), found->second.size()};
}

TEST_P(RelayTest, UnaryCallsComeBackWithTheRequestId) {
  grpc::ClientContext context;
  context.AddMetadata(kRequestIdHeader, "my-request");
  ASSERT_TRUE(GetCorpus(kCorpus, context).ok());
  EXPECT_EQ(corpus_.name(), kCorpus);
  EXPECT_EQ(corpus_.create_time().seconds(), 1);
  EXPECT_EQ(corpus_.current_generation(), "tenants/default/corpora/c/generations/g1");
  EXPECT_EQ(RequestIdIn(context), "my-request");

  grpc::ClientContext without;
  ASSERT_TRUE(GetCorpus(kCorpus, without).ok());
  EXPECT_EQ(RequestIdIn(without).size(), 32u);
}

TEST_P(RelayTest, EngineErrorsKeepTheirReasonAndGetTheRequestId) {
  engine_.corpus_error = engine::Error(absl::StatusCode::kNotFound, "CORPUS_NOT_FOUND",
                                       "there is no corpus \"c\"", {{"corpus", "c"}});
  grpc::ClientContext context;
  context.AddMetadata(kRequestIdHeader, "my-request");
  const grpc::Status status = GetCorpus(kCorpus, context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  const RemoteError error = ToRemoteError(status);
  EXPECT_EQ(error.reason, "CORPUS_NOT_FOUND");
  EXPECT_EQ(error.message, "there is no corpus \"c\"");
  EXPECT_EQ(error.request_id, "my-request");
  EXPECT_EQ(error.metadata.at("corpus"), "c");
}

TEST_P(RelayTest, TheGatewayRefusesWhatItCanSee) {
  EXPECT_EQ(ToRemoteError(GetCorpus("c")).reason, "NAME_INVALID");
  EXPECT_EQ(ToRemoteError(GetCorpus("tenants/other/corpora/c")).reason, "TENANT_NOT_FOUND");
  grpc::ClientContext context;
  context.AddMetadata(kRequestIdHeader, std::string(129, 'x'));
  const RemoteError error = ToRemoteError(GetCorpus(kCorpus, context));
  EXPECT_EQ(error.reason, "REQUEST_ID_INVALID");
  EXPECT_EQ(error.request_id, RequestIdIn(context)) << "one was made";

  grpc::ClientContext ask_context;
  const auto reader = answers_->Ask(&ask_context, {});
  v1::AskResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(ToRemoteError(reader->Finish()).reason, "TARGET_MISSING");
}

TEST_P(RelayTest, AnswersStreamInOrder) {
  grpc::ClientContext context;
  context.AddMetadata(kRequestIdHeader, "ask-1");
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(5));
  const auto reader = answers_->Ask(&context, Question("why?"));
  const auto question = engine_.WaitForQuestion(0);
  EXPECT_EQ(question->request.question, "why?");
  EXPECT_EQ(question->request.target.corpus.corpus, "c");
  EXPECT_GT(question->request.deadline_us, 0) << "deadlines are forwarded";

  std::string expected;
  std::thread step([&] {
    question->sink.started({"g1", 4096});
    for (int i = 0; i < 500; ++i) {
      const std::string text = std::to_string(i) + " ";
      expected += text;
      question->sink.text(text);
    }
    engine::Answer answer;
    answer.text = expected;
    answer.evidence.push_back({.document = "d", .byte_begin = 3, .byte_end = 6, .quote = "abc"});
    answer.usage.cached_tokens = 4096;
    question->Finish(answer);
  });
  v1::AskResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.started().generation(), "tenants/default/corpora/c/generations/g1");
  EXPECT_EQ(message.started().context_tokens(), 4096);
  std::string text;
  v1::AskResponse::Completed completed;
  while (reader->Read(&message)) {
    EXPECT_FALSE(message.has_started());
    text += message.text();
    if (message.has_completed()) completed = message.completed();
  }
  ASSERT_TRUE(reader->Finish().ok());
  step.join();
  EXPECT_EQ(text, expected);
  EXPECT_EQ(completed.answer(), expected);
  ASSERT_EQ(completed.evidence_size(), 1);
  EXPECT_EQ(completed.evidence(0).document(), "tenants/default/corpora/c/documents/d");
  EXPECT_EQ(completed.usage().cached_tokens(), 4096);
  EXPECT_EQ(RequestIdIn(context), "ask-1");
}

TEST_P(RelayTest, AnErrorMayComeAfterText) {
  grpc::ClientContext context;
  const auto reader = answers_->Ask(&context, Question("why?"));
  const auto question = engine_.WaitForQuestion(0);
  question->sink.started({"g1", 1});
  question->sink.text("begun");
  question->Finish(
      engine::Error(absl::StatusCode::kDataLoss, "CHECKSUM_MISMATCH", "a block is bad"));
  std::vector<std::string> texts;
  v1::AskResponse message;
  while (reader->Read(&message)) texts.push_back(message.text());
  EXPECT_THAT(texts, ElementsAre("", "begun"));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(ToRemoteError(status).reason, "CHECKSUM_MISMATCH");
}

TEST_P(RelayTest, ErrorsAtOnceEndTheStream) {
  engine_.ask_error = engine::Error(absl::StatusCode::kResourceExhausted, "QUEUE_FULL", "full");
  grpc::ClientContext context;
  const auto reader = answers_->Ask(&context, Question("why?"));
  v1::AskResponse message;
  EXPECT_FALSE(reader->Read(&message));
  const RemoteError error = ToRemoteError(reader->Finish());
  EXPECT_EQ(error.reason, "QUEUE_FULL");
  EXPECT_TRUE(error.retry_seconds.has_value());
}

TEST_P(RelayTest, ACallerThatCancelsCancelsTheQuestion) {
  grpc::ClientContext context;
  const auto reader = answers_->Ask(&context, Question("why?"));
  const auto question = engine_.WaitForQuestion(0);
  question->sink.started({"g1", 1});
  v1::AskResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (!question->cancelled) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_P(RelayTest, ADeadlineCancelsTheQuestion) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const auto reader = answers_->Ask(&context, Question("why?"));
  const auto question = engine_.WaitForQuestion(0);
  while (!question->cancelled) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  v1::AskResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_P(RelayTest, UploadsArriveWhole) {
  grpc::ClientContext context;
  v1::Document document;
  const auto writer = documents_->UploadDocument(&context, &document);
  ASSERT_TRUE(writer->Write(Header("d")));
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    const std::string piece(100'000 + i, static_cast<char>('a' + i));
    expected += piece;
    ASSERT_TRUE(writer->Write(Data(piece)));
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(document.name(), "tenants/default/corpora/c/documents/d");
  EXPECT_EQ(document.size_bytes(), static_cast<int64_t>(expected.size()));
  EXPECT_TRUE(engine_.documents["d"] == expected);
}

// However an upload ends early, nothing of it may be stored. Repeated, because the end of the
// stream and the news of the cancellation race each other.
TEST_P(RelayTest, UploadsThatAreCutOffLeaveNothing) {
  constexpr int kUploads = 60;
  for (int i = 0; i < kUploads; ++i) {
    int begun_before = 0;
    engine_.WaitUntil([&] {
      begun_before = engine_.uploads_begun;
      return true;
    });
    grpc::ClientContext context;
    v1::Document document;
    const auto writer = documents_->UploadDocument(&context, &document);
    ASSERT_TRUE(writer->Write(Header("cut")));
    ASSERT_TRUE(writer->Write(Data("half of a document")));
    if (i % 3 == 0) engine_.WaitUntil([&] { return engine_.uploads_begun > begun_before; });
    context.TryCancel();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  ASSERT_TRUE(gateway_->WaitIdle(limit));
  ASSERT_TRUE(worker_->WaitIdle(limit));
  EXPECT_EQ(engine_.uploads_dropped, engine_.uploads_begun);
  EXPECT_TRUE(engine_.documents.empty());
}

TEST_P(RelayTest, UploadsWithoutSenseAreRefused) {
  const auto upload = [&](const std::vector<v1::UploadDocumentRequest>& messages) {
    grpc::ClientContext context;
    v1::Document document;
    const auto writer = documents_->UploadDocument(&context, &document);
    for (const auto& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return ToRemoteError(writer->Finish()).reason;
  };
  EXPECT_EQ(upload({}), "UPLOAD_HEADER_MISSING");
  EXPECT_EQ(upload({Data("x")}), "UPLOAD_HEADER_MISSING");
  EXPECT_EQ(upload({Header("d"), Header("d")}), "UPLOAD_HEADER_REPEATED");
  EXPECT_EQ(upload({Header("d"), v1::UploadDocumentRequest()}), "FIELD_MISSING");
  EXPECT_EQ(upload({Header("d"), Data(std::string(kMaxUploadBytes + 1, 'x'))}),
            "MESSAGE_TOO_LARGE");
  EXPECT_EQ(upload({Header("Not an id"), Data("x")}), "ID_INVALID");
  v1::UploadDocumentRequest elsewhere = Header("d");
  elsewhere.mutable_header()->set_parent("tenants/other/corpora/c");
  EXPECT_EQ(upload({elsewhere}), "TENANT_NOT_FOUND");
  engine_.append_error = engine::InvalidArgument("DOCUMENT_TOO_LARGE", "too large");
  EXPECT_EQ(upload({Header("d"), Data("x"), Data("y")}), "DOCUMENT_TOO_LARGE");
  EXPECT_TRUE(engine_.documents.empty());
}

class WaitFor {
 public:
  WaitFor(v1::Operations::Stub& stub, int64_t timeout_ms) {
    v1::WaitOperationRequest request;
    request.set_name("tenants/default/corpora/c/operations/op");
    if (timeout_ms >= 0) {
      request.mutable_timeout()->set_nanos(static_cast<int>(timeout_ms) * 1'000'000);
    }
    done_ = std::async(std::launch::async, [this, &stub, request] {
      return stub.WaitOperation(&context_, request, &operation_);
    });
  }
  grpc::ClientContext& context() { return context_; }
  grpc::Status Status() { return done_.get(); }
  const v1::Operation& operation() const { return operation_; }

 private:
  grpc::ClientContext context_;
  v1::Operation operation_;
  std::future<grpc::Status> done_;
};

TEST_P(RelayTest, WaitEndsWithTheOperation) {
  WaitFor wait(*operations_, -1);
  engine_.WaitUntil([&] { return engine_.watches == 1; });
  engine::Operation ended;
  ended.name = {{"default", "c"}, "op"};
  ended.done = true;
  ended.generation = "g2";
  engine_.watchers["op"](ended);
  ASSERT_TRUE(wait.Status().ok());
  EXPECT_TRUE(wait.operation().done());
  EXPECT_EQ(wait.operation().generation(), "tenants/default/corpora/c/generations/g2");
  engine_.watchers["op"](ended);  // too late, and harmless
}

TEST_P(RelayTest, WaitEndsWithItsTimeout) {
  WaitFor wait(*operations_, 20);
  ASSERT_TRUE(wait.Status().ok());
  EXPECT_FALSE(wait.operation().done());
  EXPECT_EQ(wait.operation().metadata().tokens_done(), 7);
}

TEST_P(RelayTest, WaitAnswersBeforeTheCallsDeadline) {
  v1::WaitOperationRequest request;
  request.set_name("tenants/default/corpora/c/operations/op");
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  v1::Operation operation;
  const grpc::Status status = operations_->WaitOperation(&context, request, &operation);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(operation.done());
}

TEST_P(RelayTest, WaitCanBeCancelled) {
  WaitFor wait(*operations_, -1);
  engine_.WaitUntil([&] { return engine_.watches == 1; });
  wait.context().TryCancel();
  EXPECT_EQ(wait.Status().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_P(RelayTest, ADrainRefusesEndsWaitsAndLetsAnswersFinish) {
  WaitFor wait(*operations_, -1);
  engine_.WaitUntil([&] { return engine_.watches == 1; });
  grpc::ClientContext context;
  const auto reader = answers_->Ask(&context, Question("why?"));
  const auto question = engine_.WaitForQuestion(0);
  question->sink.started({"g1", 1});

  gateway_->Refuse();
  worker_->EndWaits();
  EXPECT_FALSE(gateway_->serving());
  const grpc::Status waited = wait.Status();
  EXPECT_EQ(waited.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ToRemoteError(waited).reason, "SERVER_DRAINING");
  const grpc::Status refused = GetCorpus(kCorpus);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ToRemoteError(refused).reason, "SERVER_DRAINING");
  EXPECT_FALSE(gateway_->WaitIdle(std::chrono::steady_clock::now()));

  question->sink.text("late");
  question->Finish(engine::Answer{.text = "late"});
  EXPECT_TRUE(gateway_->WaitIdle(std::chrono::steady_clock::now() + std::chrono::minutes(1)));
  v1::AskResponse message;
  std::string text;
  while (reader->Read(&message)) text += message.text();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "late");
  gateway_->Stop();
}

TEST_P(RelayTest, CallsOverTheLimitAreRefused) {
  Start({}, 1);
  grpc::ClientContext context;
  const auto reader = answers_->Ask(&context, Question("why?"));
  const auto question = engine_.WaitForQuestion(0);
  const grpc::Status refused = GetCorpus(kCorpus);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ToRemoteError(refused).reason, "QUEUE_FULL");
  EXPECT_TRUE(ToRemoteError(refused).retry_seconds.has_value());
  question->Finish(engine::Answer{});
  v1::AskResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(gateway_->WaitIdle(std::chrono::steady_clock::now() + std::chrono::minutes(1)));
  EXPECT_TRUE(GetCorpus(kCorpus).ok());
}

TEST_P(RelayTest, CallsThatWaitForAThreadAreBounded) {
  Start({.threads = 1, .queue_limit = 1}, 64);
  std::promise<void> gate;
  std::shared_future<void> open = gate.get_future().share();
  std::atomic<int> inside = 0;
  engine_.on_get_corpus = [&] {
    ++inside;
    open.wait();
  };
  std::vector<std::future<grpc::Status>> calls;
  const auto call = [&] {
    return std::async(std::launch::async, [&] {
      grpc::ClientContext context;
      v1::GetCorpusRequest request;
      request.set_name(kCorpus);
      v1::Corpus corpus;
      return corpora_->GetCorpus(&context, request, &corpus);
    });
  };
  calls.push_back(call());
  while (inside == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  for (int i = 0; i < 7; ++i) calls.push_back(call());
  int refused = 0;
  // One runs and one waits; the other six are refused, and only then the gate opens.
  std::vector<bool> seen(calls.size(), false);
  while (refused < 6) {
    for (size_t i = 0; i < calls.size(); ++i) {
      if (seen[i] || calls[i].wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
        continue;
      }
      seen[i] = true;
      EXPECT_EQ(ToRemoteError(calls[i].get()).reason, "QUEUE_FULL");
      ++refused;
    }
  }
  gate.set_value();
  for (size_t i = 0; i < calls.size(); ++i) {
    if (seen[i]) continue;
    EXPECT_TRUE(calls[i].get().ok());
  }
}

TEST_P(RelayTest, AWorkerThatIsGoneIsUnreachable) {
  if (GetParam() == Topology::kInProcess) GTEST_SKIP() << "dies with its gateway";
  worker_->Stop();
  grpc::ClientContext context;
  const grpc::Status status = GetCorpus(kCorpus, context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  const RemoteError error = ToRemoteError(status);
  EXPECT_EQ(error.reason, "WORKER_UNREACHABLE");
  EXPECT_EQ(error.request_id, RequestIdIn(context));
  EXPECT_TRUE(error.retry_seconds.has_value());
  while (gateway_->serving()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST_P(RelayTest, AWorkerThatDrainsIsNotServedTo) {
  if (GetParam() == Topology::kInProcess) GTEST_SKIP() << "drains with its gateway";
  worker_->Refuse();
  while (gateway_->serving()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(GetCorpus(kCorpus).error_code(), grpc::StatusCode::UNAVAILABLE);
}

INSTANTIATE_TEST_SUITE_P(Topologies, RelayTest,
                         ::testing::Values(Topology::kInProcess, Topology::kAcrossTcp),
                         [](const auto& info) {
                           return info.param == Topology::kInProcess ? "InProcess" : "AcrossTcp";
                         });

TEST(EngineCollector, ShowsTheEnginesCounters) {
  ScriptedEngine engine;
  std::map<std::string, double> values;
  for (const auto& family : EngineCollector(engine).Collect()) {
    for (const auto& metric : family.metric) {
      std::string name = family.name;
      for (const auto& label : metric.label) name += "/" + label.value;
      values[name] = metric.counter.value + metric.gauge.value;
    }
  }
  EXPECT_EQ(values.at("lectern_generated_tokens_total"), 12);
  EXPECT_EQ(values.at("lectern_drafted_tokens_total"), 9);
  EXPECT_EQ(values.at("lectern_accepted_tokens_total"), 7);
  EXPECT_EQ(values.at("lectern_pool_blocks/used"), 4);
  EXPECT_EQ(values.at("lectern_pool_blocks/free"), 6);
}

}  // namespace
}  // namespace lectern::services
