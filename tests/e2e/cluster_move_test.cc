// Corpora that move between the groups of a cluster: what callers see while they do, and what is
// left wherever a process dies meanwhile.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "lectern/v1/cluster.grpc.pb.h"
#include "lectern/v1/sessions.grpc.pb.h"
#include "tests/e2e/cluster.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr char kQuestion[] = "What is it about?";

// Asks without a pause until it is stopped; every answer must be the same.
class Questions {
 public:
  Questions(Client& client, const std::string& id, const std::string& answer)
      : thread_([this, &client, id, answer] {
          while (!stop_) {
            const Asked asked = client.Ask(Question(id, kQuestion));
            ++asked_;
            if (!asked.status.ok() || asked.completed.answer() != answer ||
                asked.completed.usage().corpus_prefill_tokens() != 0) {
              ++wrong_;
              last_ = asked.status.ok() ? asked.completed.answer() : asked.status.error_message();
            }
          }
        }) {}
  ~Questions() {
    if (thread_.joinable()) Stop();
  }
  int Stop() {
    stop_ = true;
    thread_.join();
    EXPECT_GT(asked_, 0);
    return wrong_;
  }
  const std::string& last() const { return last_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<int> asked_ = 0;
  int wrong_ = 0;
  std::string last_;
  std::thread thread_;
};

class ClusterMoveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = new Cluster();
    channel_ =
        grpc::CreateChannel(cluster_->gateway(0).address(), grpc::InsecureChannelCredentials());
    moves_ = v1::Cluster::NewStub(channel_);
    sessions_ = v1::Sessions::NewStub(channel_);
  }
  static void TearDownTestSuite() {
    sessions_.reset();
    moves_.reset();
    channel_.reset();
    delete cluster_;
    cluster_ = nullptr;
  }
  void TearDown() override {
    if (!id_.empty()) {
      EXPECT_TRUE(cluster_->client(0).Delete(id_).ok());
    }
    cluster_->AwaitWhole();
  }

  // A corpus with two documents, a cache and an answer, on the worker.
  void MakeCorpus(int worker) {
    static int count = 0;
    for (id_.clear(); id_.empty();) {
      const std::string candidate = "m" + std::to_string(++count);
      ASSERT_TRUE(cluster_->client(0).Create(candidate).ok());
      if (cluster_->HeldBy(worker).count(candidate) == 1) {
        id_ = candidate;
      } else {
        ASSERT_TRUE(cluster_->client(0).Delete(candidate).ok());
      }
    }
    on_ = worker;
    ASSERT_TRUE(cluster_->client(0).Upload(id_, "a", RandomText(300, count)).ok());
    ASSERT_TRUE(cluster_->client(1).Upload(id_, "b", RandomText(200, count + 1000)).ok());
    const grpc::Status ingested = cluster_->client(0).Ingest(id_);
    ASSERT_TRUE(ingested.ok()) << ingested.error_message();
    first_ = cluster_->client(0).Ask(Question(id_, kQuestion));
    ASSERT_TRUE(first_.status.ok()) << first_.status.error_message();
  }

  void ExpectFirstAnswer(Client& client) {
    const Asked asked = client.Ask(Question(id_, kQuestion));
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    EXPECT_EQ(asked.completed.answer(), first_.completed.answer());
    EXPECT_EQ(asked.started.generation(), first_.started.generation());
    EXPECT_EQ(asked.completed.usage().corpus_prefill_tokens(), 0);
    EXPECT_EQ(asked.completed.usage().cached_tokens(), first_.completed.usage().cached_tokens());
    ASSERT_EQ(asked.completed.evidence_size(), first_.completed.evidence_size());
    for (int i = 0; i < asked.completed.evidence_size(); ++i) {
      EXPECT_EQ(asked.completed.evidence(i).quote(), first_.completed.evidence(i).quote());
    }
  }

  grpc::Status Move(const std::string& group, v1::Move* move = nullptr) {
    v1::MoveCorpusRequest request;
    request.set_corpus(CorpusPath(id_));
    if (!group.empty()) request.set_to("groups/" + group);
    v1::Move ignored;
    grpc::ClientContext context;
    return moves_->MoveCorpus(&context, request, move == nullptr ? &ignored : move);
  }

  v1::Move Get() {
    v1::GetMoveRequest request;
    request.set_corpus(CorpusPath(id_));
    v1::Move move;
    grpc::ClientContext context;
    const grpc::Status status = moves_->GetMove(&context, request, &move);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return move;
  }

  v1::Move AwaitEnd() {
    v1::Move move = Get();
    while (move.state() == v1::Move::RUNNING) {
      std::this_thread::sleep_for(milliseconds(20));
      move = Get();
    }
    return move;
  }

  // Until the target has begun to copy.
  void AwaitAttempt() {
    while (Get().attempts() == 0) std::this_thread::sleep_for(milliseconds(10));
  }

  // Moves it to the other group, which it then is on, alone.
  void MoveAcross() {
    const grpc::Status begun = Move(GroupOf(1 - on_));
    ASSERT_TRUE(begun.ok()) << begun.error_message();
    ExpectMoved();
  }

  void ExpectMoved() {
    const v1::Move move = AwaitEnd();
    ASSERT_EQ(move.state(), v1::Move::DONE) << move.ShortDebugString();
    EXPECT_GT(move.bytes_done(), 0);
    EXPECT_GT(move.records_done(), 0);
    EXPECT_EQ(move.bytes_done(), move.bytes_total());
    EXPECT_EQ(move.to(), "groups/" + GroupOf(1 - on_));
    on_ = 1 - on_;
    for (int g = 0; g < 2; ++g) {
      cluster_->gateway(g).AwaitMetric("lectern_cluster_pending_purges", 0);
      ExpectFirstAnswer(cluster_->client(g));
    }
    EXPECT_EQ(cluster_->HeldBy(on_).count(id_), 1u);
    EXPECT_EQ(cluster_->HeldBy(1 - on_).count(id_), 0u);
  }

  // Starts the worker again with fail points armed, as LECTERN_FAIL_POINTS has them.
  void Restart(int worker, const std::string& fail_points) {
    Server& server = cluster_->worker(worker);
    if (server.process().Running()) {
      server.process().Signal(SIGTERM);
      server.process().Wait();
    }
    setenv("LECTERN_FAIL_POINTS", fail_points.c_str(), 1);
    server.Start();
    unsetenv("LECTERN_FAIL_POINTS");
    cluster_->AwaitWhole();
  }

  static Cluster* cluster_;
  static std::shared_ptr<grpc::Channel> channel_;
  static std::unique_ptr<v1::Cluster::Stub> moves_;
  static std::unique_ptr<v1::Sessions::Stub> sessions_;
  std::string id_;
  int on_ = 0;
  Asked first_;
};

Cluster* ClusterMoveTest::cluster_ = nullptr;
std::shared_ptr<grpc::Channel> ClusterMoveTest::channel_;
std::unique_ptr<v1::Cluster::Stub> ClusterMoveTest::moves_;
std::unique_ptr<v1::Sessions::Stub> ClusterMoveTest::sessions_;

TEST_F(ClusterMoveTest, AMovedCorpusIsTheSameAndNothingIsPrefilled) {
  MakeCorpus(0);
  v1::CreateSessionRequest create;
  create.set_parent(CorpusPath(id_));
  create.set_session_id("talk");
  v1::Session session;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(sessions_->CreateSession(&context, create, &session).ok());
  }
  v1::AskRequest question;
  question.set_session(session.name());
  question.set_question("And then?");
  question.set_max_tokens(8);
  ASSERT_TRUE(cluster_->client(0).Ask(question).status.ok());
  v1::ListOperationsRequest list;
  list.set_parent(CorpusPath(id_));
  v1::ListOperationsResponse before;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(cluster_->client(0).operations->ListOperations(&context, list, &before).ok());
  }

  Questions questions(cluster_->balanced(), id_, first_.completed.answer());
  MoveAcross();
  EXPECT_EQ(questions.Stop(), 0) << questions.last();

  // Under the names it had.
  v1::Corpus corpus;
  ASSERT_TRUE(cluster_->client(1).Get(id_, &corpus).ok());
  EXPECT_EQ(corpus.current_generation(), first_.started.generation());
  EXPECT_EQ(corpus.document_count(), 2);
  EXPECT_FALSE(corpus.stale());
  v1::ListOperationsResponse after;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(cluster_->client(0).operations->ListOperations(&context, list, &after).ok());
  }
  ASSERT_EQ(after.operations_size(), before.operations_size());
  EXPECT_EQ(after.operations(0).name(), before.operations(0).name());
  EXPECT_EQ(after.operations(0).generation(), first_.started.generation());
  v1::AskRequest pinned = Question(id_, kQuestion);
  pinned.set_generation(first_.started.generation());
  EXPECT_EQ(cluster_->client(0).Ask(pinned).completed.answer(), first_.completed.answer());
  // The conversation goes on.
  const Asked more = cluster_->client(1).Ask(question);
  ASSERT_TRUE(more.status.ok()) << more.status.error_message();
  EXPECT_EQ(more.completed.turn(), 2);
  EXPECT_EQ(more.completed.usage().corpus_prefill_tokens(), 0);
  // What is added costs what is new: the blocks are found by the hashes of their new group.
  ASSERT_TRUE(cluster_->client(0).Upload(id_, "c", RandomText(100, 77)).ok());
  ASSERT_TRUE(cluster_->client(0).Ingest(id_).ok());
  {
    grpc::ClientContext context;
    ASSERT_TRUE(cluster_->client(0).operations->ListOperations(&context, list, &after).ok());
  }
  EXPECT_GT(after.operations(0).metadata().tokens_cached(), 256);
  first_ = cluster_->client(0).Ask(Question(id_, kQuestion));
  // And back.
  MoveAcross();
  for (int w = 0; w < 2; ++w) {
    EXPECT_GE(cluster_->worker(w).Metric("lectern_cluster_moves_total{result=\"done\"}"), 1);
    EXPECT_GT(cluster_->worker(w).Metric("lectern_cluster_moved_bytes_total"), 0);
    EXPECT_EQ(cluster_->worker(w).Metric("lectern_cluster_held_corpora"), 0);
  }
}

TEST_F(ClusterMoveTest, ATargetThatDiesAnywhereBeginsAgain) {
  MakeCorpus(0);
  for (const std::string place :
       {"import.piece", "import.blocks", "import.publish", "import.published"}) {
    SCOPED_TRACE(place);
    const int target = 1 - on_;
    Restart(target, place + "=kill");
    ASSERT_TRUE(Move(GroupOf(target)).ok());
    EXPECT_EQ(cluster_->worker(target).process().Wait(), -SIGKILL);
    // The owner is still the owner.
    ExpectFirstAnswer(cluster_->client(1));
    EXPECT_EQ(Get().state(), v1::Move::RUNNING);
    cluster_->worker(target).Start();
    ExpectMoved();
  }
}

TEST_F(ClusterMoveTest, ASourceThatDiesIsWaitedFor) {
  MakeCorpus(0);
  Restart(1, "import.blocks=sleep:4000");
  ASSERT_TRUE(Move("g2").ok());
  AwaitAttempt();
  cluster_->worker(0).process().Signal(SIGKILL);
  cluster_->worker(0).process().Wait();
  cluster_->worker(0).Start();
  ExpectMoved();
  EXPECT_GT(Get().attempts(), 1);
}

TEST_F(ClusterMoveTest, APartitionDelaysTheMove) {
  MakeCorpus(0);
  // Between the two workers, and then between the target and etcd.
  Restart(1, "import.piece=sleep:1000");
  ASSERT_TRUE(Move("g2").ok());
  AwaitAttempt();
  cluster_->to_worker(0).Cut();
  std::this_thread::sleep_for(milliseconds(1500));
  cluster_->to_worker(0).Heal();
  ExpectMoved();
  Restart(0, "import.piece=sleep:1000");
  ASSERT_TRUE(Move("g1").ok());
  AwaitAttempt();
  cluster_->worker_to_etcd(0).Cut();
  std::this_thread::sleep_for(std::chrono::seconds(kLeaseSeconds + 1));
  ExpectFirstAnswer(cluster_->client(0));
  cluster_->worker_to_etcd(0).Heal();
  ExpectMoved();
}

TEST_F(ClusterMoveTest, WhatIsUploadedMeanwhileComesAlong) {
  MakeCorpus(0);
  Restart(1, "import.blocks=sleep:1500");
  ASSERT_TRUE(Move("g2").ok());
  AwaitAttempt();
  const grpc::Status uploaded = cluster_->client(0).Upload(id_, "late", RandomText(50, 5));
  ASSERT_TRUE(uploaded.ok()) << uploaded.error_message();
  ExpectMoved();
  v1::Corpus corpus;
  ASSERT_TRUE(cluster_->client(0).Get(id_, &corpus).ok());
  EXPECT_EQ(corpus.document_count(), 3);
  EXPECT_TRUE(corpus.stale());
}

TEST_F(ClusterMoveTest, WhatIsDeletedMeanwhileDoesNotComeBack) {
  MakeCorpus(0);
  Restart(1, "import.blocks=sleep:1500");
  ASSERT_TRUE(Move("g2").ok());
  AwaitAttempt();
  ASSERT_TRUE(cluster_->client(0).Delete(id_).ok());
  EXPECT_EQ(Reason(cluster_->client(1).Get(id_)), "CORPUS_NOT_FOUND");
  const v1::Move move = AwaitEnd();
  EXPECT_EQ(move.state(), v1::Move::CANCELLED);
  for (int w = 0; w < 2; ++w) EXPECT_EQ(cluster_->HeldBy(w).count(id_), 0u);
  EXPECT_EQ(Reason(Move("g2")), "CORPUS_NOT_FOUND");
  // The name is free.
  ASSERT_TRUE(cluster_->client(0).Create(id_).ok());
  v1::Corpus corpus;
  ASSERT_TRUE(cluster_->client(1).Get(id_, &corpus).ok());
  EXPECT_EQ(corpus.document_count(), 0);
}

TEST_F(ClusterMoveTest, AMoveCanBeCancelled) {
  MakeCorpus(0);
  Restart(1, "import.blocks=sleep:1500");
  ASSERT_TRUE(Move("g2").ok());
  AwaitAttempt();
  v1::Move again;
  ASSERT_TRUE(Move("", &again).ok());
  EXPECT_EQ(again.to(), "groups/g2");
  EXPECT_EQ(Reason(Move("g1")), "MOVE_RUNNING");
  v1::CancelMoveRequest request;
  request.set_corpus(CorpusPath(id_));
  v1::Move move;
  grpc::ClientContext context;
  ASSERT_TRUE(moves_->CancelMove(&context, request, &move).ok());
  EXPECT_EQ(AwaitEnd().state(), v1::Move::CANCELLED);
  ExpectFirstAnswer(cluster_->client(0));
  EXPECT_EQ(cluster_->HeldBy(0).count(id_), 1u);
  EXPECT_EQ(cluster_->HeldBy(1).count(id_), 0u);
  // It can go again.
  MoveAcross();
}

TEST_F(ClusterMoveTest, WhatMakesNoSenseIsRefused) {
  MakeCorpus(0);
  EXPECT_EQ(Reason(Move("g1")), "MOVE_NEEDLESS");
  EXPECT_EQ(Reason(Move("g9")), "GROUP_NOT_FOUND");
  v1::GetMoveRequest get;
  get.set_corpus(CorpusPath(id_));
  v1::Move move;
  grpc::ClientContext context;
  EXPECT_EQ(Reason(moves_->GetMove(&context, get, &move)), "MOVE_NOT_FOUND");
  v1::MoveCorpusRequest request;
  request.set_corpus("handbook");
  grpc::ClientContext other;
  EXPECT_EQ(Reason(moves_->MoveCorpus(&other, request, &move)), "NAME_INVALID");
  v1::DrainGroupRequest drain;
  drain.set_name("groups/g9");
  v1::Group group;
  grpc::ClientContext third;
  EXPECT_EQ(Reason(moves_->DrainGroup(&third, drain, &group)), "GROUP_NOT_FOUND");
}

TEST_F(ClusterMoveTest, ADrainedGroupIsEmptyAndGetsNothingNew) {
  MakeCorpus(0);
  const std::string address = "--address=" + cluster_->gateway(0).address();
  std::vector<std::string> more;
  for (int i = 0; i < 5; ++i) {
    more.push_back("d" + std::to_string(i));
    ASSERT_TRUE(cluster_->client(0).Create(more.back()).ok());
    ASSERT_TRUE(cluster_->client(0).Upload(more.back(), "a", RandomText(20, i)).ok());
  }
  Finished finished = RunCommand({Program("lectern"), "cluster", "drain", "g1", address});
  EXPECT_EQ(finished.code, 0) << finished.errors;
  on_ = 0;
  ExpectMoved();
  EXPECT_TRUE(cluster_->HeldBy(0).empty());
  for (const std::string& id : more) {
    v1::Corpus corpus;
    ASSERT_TRUE(cluster_->client(1).Get(id, &corpus).ok());
    EXPECT_EQ(corpus.document_count(), 1);
  }
  finished = RunCommand({Program("lectern"), "cluster", "groups", address});
  EXPECT_EQ(finished.code, 0) << finished.errors;
  EXPECT_THAT(finished.output, HasSubstr("draining"));
  for (int i = 0; i < 5; ++i) {
    more.push_back("n" + std::to_string(i));
    ASSERT_TRUE(cluster_->client(0).Create(more.back()).ok());
  }
  EXPECT_TRUE(cluster_->HeldBy(0).empty());
  finished = RunCommand({Program("lectern"), "cluster", "move", id_, "g1", address});
  EXPECT_EQ(finished.code, 1);
  EXPECT_THAT(finished.errors, HasSubstr("GROUP_DRAINING"));
  finished = RunCommand({Program("lectern"), "cluster", "resume", "g1", address});
  EXPECT_EQ(finished.code, 0) << finished.errors;
  finished = RunCommand({Program("lectern"), "cluster", "move", id_, "g1", address});
  EXPECT_EQ(finished.code, 0) << finished.errors;
  on_ = 1;
  ExpectMoved();
  finished = RunCommand({Program("lectern"), "cluster", "moves", address});
  EXPECT_THAT(finished.output, HasSubstr(id_));
  for (const std::string& id : more) EXPECT_TRUE(cluster_->client(0).Delete(id).ok());
}

}  // namespace
}  // namespace lectern::testing
