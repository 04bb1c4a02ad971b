// Corpora on two groups: what is acknowledged is on both, and the loss of one, disk and all, is
// outlived.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "lectern/v1/sessions.grpc.pb.h"
#include "tests/e2e/cluster.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using std::chrono::milliseconds;

constexpr char kQuestion[] = "What is it about?";
constexpr char kReady[] = "lectern_cluster_replicas{state=\"ready\"}";

class ClusterReplicaTest : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> flags = {}, int workers = 2) {
    flags.insert(flags.begin(),
                 {"--replicas=2", "--replica_patience_seconds=100", "--failover_seconds=0"});
    cluster_ = std::make_unique<Cluster>(ClusterOptions{workers, flags});
    sessions_ = v1::Sessions::NewStub(client().channel);
  }
  Client& client() { return cluster_->client(0); }
  Server& worker(int i) { return cluster_->worker(i); }

  // A corpus, whose owner is found by where it is.
  void MakeCorpus(const std::string& id = "c") {
    id_ = id;
    ASSERT_TRUE(client().Create(id_).ok());
    FindOwner();
  }
  void FindOwner() {
    for (owner_ = 0; cluster_->HeldBy(owner_).count(id_) == 0; ++owner_) ASSERT_LT(owner_, 3);
  }

  void Upload(const std::string& id, int seed) {
    const grpc::Status status = client().Upload(id_, id, RandomText(200, seed));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  void IngestAndAsk() {
    const grpc::Status ingested = client().Ingest(id_);
    ASSERT_TRUE(ingested.ok()) << ingested.error_message();
    first_ = client().Ask(Question(id_, kQuestion));
    ASSERT_TRUE(first_.status.ok()) << first_.status.error_message();
  }

  void ExpectFirstAnswer() {
    const Asked asked = cluster_->client(1).Ask(Question(id_, kQuestion));
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    EXPECT_EQ(asked.completed.answer(), first_.completed.answer());
    EXPECT_EQ(asked.started.generation(), first_.started.generation());
    EXPECT_EQ(asked.completed.usage().corpus_prefill_tokens(), 0);
    EXPECT_EQ(asked.completed.usage().cached_tokens(), first_.completed.usage().cached_tokens());
  }

  grpc::Status Rename(const std::string& name) {
    v1::UpdateCorpusRequest request;
    request.mutable_corpus()->set_name(CorpusPath(id_));
    request.mutable_corpus()->set_display_name(name);
    request.mutable_update_mask()->add_paths("display_name");
    v1::Corpus corpus;
    grpc::ClientContext context;
    return client().corpora->UpdateCorpus(&context, request, &corpus);
  }

  // Until the second copy has all that the first one has, caches and turns included: from what is
  // acknowledged on, a copy counts as behind until its cache has come whole again.
  void AwaitWholeReplica(int replica) {
    const grpc::Status renamed = Rename("renamed");
    ASSERT_TRUE(renamed.ok()) << renamed.error_message();
    worker(replica).AwaitMetric("lectern_cluster_replica_caches_behind", 0);
  }

  void Kill(int i) {
    worker(i).process().Signal(SIGKILL);
    worker(i).process().Wait();
  }
  // The process and its disk.
  void Lose(int i) {
    Kill(i);
    std::filesystem::remove_all(cluster_->DataDirectory(i));
  }
  void StartWith(int i, const std::string& fail_points) {
    setenv("LECTERN_FAIL_POINTS", fail_points.c_str(), 1);
    worker(i).Start();
    unsetenv("LECTERN_FAIL_POINTS");
  }

  std::set<std::string> Documents() {
    v1::ListDocumentsRequest request;
    request.set_parent(CorpusPath(id_));
    v1::ListDocumentsResponse response;
    grpc::ClientContext context;
    const grpc::Status status = client().documents->ListDocuments(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::set<std::string> ids;
    for (const v1::Document& document : response.documents()) {
      ids.insert(document.name().substr(document.name().rfind('/') + 1));
    }
    return ids;
  }
  grpc::Status DeleteDocument(const std::string& id) {
    v1::DeleteDocumentRequest request;
    request.set_name(CorpusPath(id_) + "/documents/" + id);
    google::protobuf::Empty empty;
    grpc::ClientContext context;
    return client().documents->DeleteDocument(&context, request, &empty);
  }

  void Talk(const std::string& session, int turn) {
    v1::AskRequest question;
    question.set_session(CorpusPath(id_) + "/sessions/" + session);
    question.set_question("And then?");
    question.set_max_tokens(8);
    const Asked asked = client().Ask(question);
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    EXPECT_EQ(asked.completed.turn(), turn);
    EXPECT_EQ(asked.completed.usage().corpus_prefill_tokens(), 0);
  }
  void MakeSession(const std::string& id) {
    v1::CreateSessionRequest request;
    request.set_parent(CorpusPath(id_));
    request.set_session_id(id);
    v1::Session session;
    grpc::ClientContext context;
    const grpc::Status status = sessions_->CreateSession(&context, request, &session);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<v1::Sessions::Stub> sessions_;
  std::string id_;
  int owner_ = 0;
  Asked first_;
};

TEST_F(ClusterReplicaTest, TheLossOfAGroupAndItsDiskLosesNothing) {
  Start();
  MakeCorpus();
  Upload("a", 1);
  Upload("b", 2);
  IngestAndAsk();
  MakeSession("talk");
  Talk("talk", 1);
  const int replica = 1 - owner_;
  // Nobody sees the second copy.
  EXPECT_EQ(cluster_->HeldBy(replica).count(id_), 0u);
  worker(owner_).AwaitMetric(kReady, 1);
  AwaitWholeReplica(replica);
  Lose(owner_);
  ExpectFirstAnswer();
  EXPECT_EQ(Documents(), (std::set<std::string>{"a", "b"}));
  Talk("talk", 2);
  EXPECT_EQ(worker(replica).Metric("lectern_cluster_failovers_total"), 1);
  EXPECT_EQ(cluster_->HeldBy(replica).count(id_), 1u);
  // The group comes back with a new disk, and gets a copy; then the other one is lost.
  worker(owner_).Start();
  cluster_->AwaitWhole();
  worker(replica).AwaitMetric(kReady, 1);
  Upload("c", 3);
  AwaitWholeReplica(owner_);
  Lose(replica);
  ExpectFirstAnswer();
  EXPECT_EQ(Documents(), (std::set<std::string>{"a", "b", "c"}));
  Talk("talk", 3);
}

TEST_F(ClusterReplicaTest, AnOwnerThatComesBackWithoutItsDiskIsReplaced) {
  // Nothing is taken over for having been away.
  Start({"--failover_seconds=3600"});
  MakeCorpus();
  Upload("a", 1);
  IngestAndAsk();
  const int replica = 1 - owner_;
  AwaitWholeReplica(replica);
  Lose(owner_);
  worker(owner_).Start();
  cluster_->AwaitWhole();
  worker(replica).AwaitMetric("lectern_cluster_failovers_total", 1);
  ExpectFirstAnswer();
  EXPECT_EQ(Documents(), (std::set<std::string>{"a"}));
  EXPECT_EQ(cluster_->HeldBy(replica).count(id_), 1u);
  // One that comes back with its disk is not.
  Kill(replica);
  worker(replica).Start();
  cluster_->AwaitWhole();
  ExpectFirstAnswer();
  EXPECT_EQ(cluster_->HeldBy(replica).count(id_), 1u);
}

TEST_F(ClusterReplicaTest, WhatWasDeletedStaysDeleted) {
  Start();
  MakeCorpus("gone");
  Upload("a", 1);
  const int owner = owner_;
  MakeCorpus();
  for (int i = 0; owner_ != owner; ++i) MakeCorpus("c" + std::to_string(i));
  Upload("a", 1);
  Upload("b", 2);
  IngestAndAsk();
  MakeSession("talk");
  Talk("talk", 1);
  MakeSession("secret");
  Talk("secret", 1);
  AwaitWholeReplica(1 - owner_);
  ASSERT_TRUE(DeleteDocument("a").ok());
  v1::DeleteSessionRequest request;
  request.set_name(CorpusPath(id_) + "/sessions/secret");
  google::protobuf::Empty empty;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(sessions_->DeleteSession(&context, request, &empty).ok());
  }
  ASSERT_TRUE(client().Delete("gone").ok());
  Lose(owner_);
  EXPECT_EQ(Documents(), (std::set<std::string>{"b"}));
  EXPECT_EQ(Reason(client().Get("gone")), "CORPUS_NOT_FOUND");
  v1::AskRequest question;
  question.set_session(CorpusPath(id_) + "/sessions/secret");
  question.set_question("And then?");
  EXPECT_EQ(Reason(client().Ask(question).status), "SESSION_NOT_FOUND");
  Talk("talk", 2);
  // The name is free, and what it names is new.
  ASSERT_TRUE(client().Delete(id_).ok());
  worker(owner_).Start();
  cluster_->AwaitWhole();
  ASSERT_TRUE(client().Create(id_).ok());
  EXPECT_TRUE(Documents().empty());
}

TEST_F(ClusterReplicaTest, AnUploadIsAcknowledgedWhenBothHaveItWhereverOneDies) {
  Start({"--failover_seconds=3600"});
  MakeCorpus();
  const int replica = 1 - owner_;
  std::set<std::string> acknowledged;
  int seed = 0;
  // While a document comes, and whenever it happens to be.
  for (const std::string place : {"import.piece", ""}) {
    SCOPED_TRACE(place);
    if (!place.empty()) {
      worker(replica).process().Signal(SIGTERM);
      worker(replica).process().Wait();
      StartWith(replica, place + "=kill");
      cluster_->AwaitWhole();
    }
    const std::string id = "r" + std::to_string(++seed);
    grpc::Status status(grpc::StatusCode::INTERNAL, "not asked");
    std::thread upload([&] { status = client().Upload(id_, id, RandomText(200, seed)); });
    if (place.empty()) worker(replica).process().Signal(SIGKILL);
    EXPECT_EQ(worker(replica).process().Wait(), -SIGKILL);
    worker(replica).Start();
    upload.join();
    EXPECT_TRUE(status.ok()) << status.error_message();
    acknowledged.insert(id);
    cluster_->AwaitWhole();
  }
  for (const std::string place : {"upload.committed"}) {
    SCOPED_TRACE(place);
    worker(owner_).process().Signal(SIGTERM);
    worker(owner_).process().Wait();
    StartWith(owner_, place + "=kill");
    cluster_->AwaitWhole();
    const std::string id = "o" + std::to_string(++seed);
    grpc::Status status(grpc::StatusCode::INTERNAL, "not asked");
    std::thread upload([&] { status = client().Upload(id_, id, RandomText(200, seed)); });
    EXPECT_EQ(worker(owner_).process().Wait(), -SIGKILL);
    worker(owner_).Start();
    upload.join();
    cluster_->AwaitWhole();
    // Nobody was told that it is there; who asks again is.
    const grpc::Status again =
        status.ok() ? status : client().Upload(id_, id, RandomText(200, seed));
    EXPECT_TRUE(again.ok() || Reason(again) == "DOCUMENT_EXISTS") << again.error_message();
    acknowledged.insert(id);
  }
  Lose(owner_);
  worker(owner_).Start();
  cluster_->AwaitWhole();
  worker(replica).AwaitMetric("lectern_cluster_failovers_total", 1);
  EXPECT_EQ(Documents(), acknowledged);
  EXPECT_EQ(cluster_->HeldBy(replica).count(id_), 1u);
}

TEST_F(ClusterReplicaTest, WithOneGroupDownChangesWait) {
  Start({"--failover_seconds=3600"});
  MakeCorpus();
  Upload("a", 1);
  IngestAndAsk();
  const int replica = 1 - owner_;
  Kill(replica);
  grpc::Status status(grpc::StatusCode::INTERNAL, "not asked");
  std::thread upload([&] { status = client().Upload(id_, "b", RandomText(200, 2)); });
  worker(owner_).AwaitMetric("lectern_cluster_replica_waiting_calls", 1);
  // Questions do not.
  ExpectFirstAnswer();
  // One that has less patience is told.
  {
    v1::DeleteDocumentRequest request;
    request.set_name(CorpusPath(id_) + "/documents/a");
    google::protobuf::Empty empty;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + milliseconds(3000));
    const grpc::Status refused = client().documents->DeleteDocument(&context, request, &empty);
    EXPECT_TRUE(Reason(refused) == "REPLICA_UNREACHABLE" ||
                refused.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED)
        << refused.error_message();
  }
  worker(owner_).AwaitMetric("lectern_cluster_replica_waiting_calls", 1);
  worker(replica).Start();
  upload.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(ClusterReplicaTest, OrAreRefusedAtOnce) {
  Start({"--failover_seconds=3600", "--replica_patience_seconds=0"});
  MakeCorpus();
  Upload("a", 1);
  const int replica = 1 - owner_;
  Kill(replica);
  cluster_->gateway(0).AwaitMetric("lectern_cluster_groups", 1);
  worker(owner_).AwaitMetric("lectern_cluster_groups", 1);
  const grpc::Status refused = client().Upload(id_, "b", RandomText(200, 2));
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Reason(refused), "REPLICA_UNREACHABLE") << refused.error_message();
  EXPECT_EQ(Reason(DeleteDocument("a")), "REPLICA_UNREACHABLE");
  // Nothing of it was stored, or deleted.
  EXPECT_EQ(Documents(), (std::set<std::string>{"a"}));
  worker(replica).Start();
  cluster_->AwaitWhole();
  worker(owner_).AwaitMetric(kReady, 1);
  Upload("b", 2);
}

TEST_F(ClusterReplicaTest, AThirdGroupTakesTheRoleOfOneThatIsLostForGood) {
  Start({"--replace_replica_seconds=1"}, /*workers=*/3);
  MakeCorpus();
  Upload("a", 1);
  IngestAndAsk();
  const auto followed = [&](int i) {
    return worker(i).Metric("lectern_cluster_replicas_followed") == 1;
  };
  int replica = (owner_ + 1) % 3;
  if (!followed(replica)) replica = (owner_ + 2) % 3;
  ASSERT_TRUE(followed(replica));
  const int third = 3 - owner_ - replica;
  Lose(replica);
  worker(third).AwaitMetric("lectern_cluster_replicas_followed", 1);
  worker(owner_).AwaitMetric(kReady, 1);
  Upload("b", 2);
  AwaitWholeReplica(third);
  Lose(owner_);
  ExpectFirstAnswer();
  EXPECT_EQ(Documents(), (std::set<std::string>{"a", "b"}));
}

}  // namespace
}  // namespace lectern::testing
