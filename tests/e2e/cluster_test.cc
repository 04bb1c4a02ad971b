// What happens to a cluster, and what its callers see of it.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <map>
#include <thread>

#include "lectern/worker/v1/worker.grpc.pb.h"
#include "services/rpc/call.h"
#include "tests/e2e/cluster.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;

constexpr int kCorpora = 6;

std::string Id(int i) { return "c" + std::to_string(i); }

class ClusterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = new Cluster();
    Fill();
  }
  static void TearDownTestSuite() {
    delete cluster_;
    cluster_ = nullptr;
    worker_of_.clear();
  }
  // Every test leaves the cluster as it found it.
  void TearDown() override { cluster_->AwaitWhole(); }

  // Corpora on both groups; one of each is asked.
  static void Fill() {
    for (int i = 0; i < kCorpora; ++i) {
      const grpc::Status made = cluster_->client(i % 2).Create(Id(i));
      ASSERT_TRUE(made.ok()) << made.error_message();
    }
    for (int w = 0; w < 2; ++w) {
      for (const std::string& id : cluster_->HeldBy(w)) worker_of_[id] = w;
    }
    ASSERT_EQ(worker_of_.size(), static_cast<size_t>(kCorpora));
    for (int w = 0; w < 2; ++w) {
      const std::string id = On(w);
      ASSERT_FALSE(id.empty()) << "no corpus was placed on group " << w;
      Client& client = cluster_->client(w);
      Client& other = cluster_->client(1 - w);
      grpc::Status status = client.Upload(id, "a", RandomText(300, w));
      ASSERT_TRUE(status.ok()) << status.error_message();
      status = other.Ingest(id);
      ASSERT_TRUE(status.ok()) << status.error_message();
      first_answer_[w] = client.Ask(Question(id, "What is it about?"));
      ASSERT_TRUE(first_answer_[w].status.ok()) << first_answer_[w].status.error_message();
    }
  }

  // The first corpus on the worker.
  static std::string On(int worker) {
    for (const auto& [id, held] : worker_of_) {
      if (held == worker) return id;
    }
    return "";
  }

  static void ExpectFirstAnswer(Client& client, int worker) {
    const Asked asked = client.Ask(Question(On(worker), "What is it about?"));
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    EXPECT_EQ(asked.completed.answer(), first_answer_[worker].completed.answer());
    EXPECT_EQ(asked.completed.usage().corpus_prefill_tokens(), 0);
  }

  // Calls without a pause until it is stopped.
  class Load {
   public:
    Load(Client& client, std::vector<std::string> ids)
        : thread_([this, &client, ids] {
            for (size_t i = 0; !stop_; ++i) {
              const grpc::Status status = client.Get(ids[i % ids.size()]);
              ++calls_;
              if (!status.ok()) {
                ++failures_;
                last_ = status.error_message();
              }
              std::this_thread::sleep_for(milliseconds(2));
            }
          }) {}
    // How many failed.
    int Stop() {
      stop_ = true;
      thread_.join();
      EXPECT_GT(calls_, 0);
      return failures_;
    }
    const std::string& last() const { return last_; }

   private:
    std::atomic<bool> stop_ = false;
    int calls_ = 0;
    int failures_ = 0;
    std::string last_;
    std::thread thread_;
  };

  static Cluster* cluster_;
  static std::map<std::string, int> worker_of_;  // by corpus id
  static std::array<Asked, 2> first_answer_;     // of the first corpus on each
};

Cluster* ClusterTest::cluster_ = nullptr;
std::map<std::string, int> ClusterTest::worker_of_;
std::array<Asked, 2> ClusterTest::first_answer_;

TEST_F(ClusterTest, EveryGatewayAnswersForAllGroups) {
  for (int w = 0; w < 2; ++w) {
    for (int g = 0; g < 2; ++g) ExpectFirstAnswer(cluster_->client(g), w);
  }
  EXPECT_EQ(Reason(cluster_->client(0).Get("nothing")), "CORPUS_NOT_FOUND");
  EXPECT_EQ(Reason(cluster_->client(0).Create(On(0))), "CORPUS_EXISTS");
  // What one gateway has made the other knows at once.
  ASSERT_TRUE(cluster_->client(0).Create("fresh").ok());
  EXPECT_TRUE(cluster_->client(1).Get("fresh").ok());
  EXPECT_TRUE(cluster_->client(1).Delete("fresh").ok());
  EXPECT_EQ(Reason(cluster_->client(0).Get("fresh")), "CORPUS_NOT_FOUND");
  EXPECT_EQ(Reason(cluster_->client(0).Delete("fresh")), "CORPUS_NOT_FOUND");
  for (int w = 0; w < 2; ++w) EXPECT_EQ(cluster_->HeldBy(w).count("fresh"), 0u);
  // A name that the server makes.
  v1::CreateCorpusRequest request;
  request.set_parent(kTenant);
  v1::Corpus made;
  grpc::ClientContext context;
  ASSERT_TRUE(cluster_->client(0).corpora->CreateCorpus(&context, request, &made).ok());
  const std::string id = made.name().substr(CorpusPath("").size());
  EXPECT_EQ(id.size(), 16u);
  EXPECT_TRUE(cluster_->client(1).Delete(id).ok());
}

TEST_F(ClusterTest, ListsGoOverAllGroups) {
  for (const int page_size : {0, 1, 4}) {
    std::vector<std::string> names;
    std::string token;
    size_t pages = 0;
    do {
      v1::ListCorporaRequest request;
      request.set_parent(kTenant);
      request.set_page_size(page_size);
      request.set_page_token(token);
      v1::ListCorporaResponse response;
      grpc::ClientContext context;
      // Gateways hold no state: a page from one, the next from the other.
      Client& client = cluster_->client(pages++ % 2);
      const grpc::Status status = client.corpora->ListCorpora(&context, request, &response);
      ASSERT_TRUE(status.ok()) << status.error_message();
      EXPECT_THAT(response.unreachable(), IsEmpty());
      if (page_size > 0) {
        EXPECT_LE(response.corpora_size(), page_size);
      }
      for (const v1::Corpus& corpus : response.corpora()) names.push_back(corpus.name());
      token = response.next_page_token();
    } while (!token.empty());
    std::vector<std::string> all;
    for (int i = 0; i < kCorpora; ++i) all.push_back(CorpusPath(Id(i)));
    EXPECT_THAT(names, UnorderedElementsAreArray(all)) << "page size " << page_size;
  }
  v1::ListCorporaRequest request;
  request.set_parent(kTenant);
  request.set_page_token("made up");
  v1::ListCorporaResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(Reason(cluster_->client(0).corpora->ListCorpora(&context, request, &response)),
            "BAD_PAGE_TOKEN");
  v1::Stats stats;
  grpc::ClientContext stats_context;
  ASSERT_TRUE(cluster_->client(0).models->GetStats(&stats_context, {}, &stats).ok());
  EXPECT_EQ(stats.corpora(), kCorpora);
  EXPECT_EQ(stats.documents(), 2);
  EXPECT_EQ(stats.recomputed().count("slow"), 1u);
  EXPECT_THAT(stats.unreachable(), IsEmpty());
}

TEST_F(ClusterTest, TenantsAreTheSameOnAllGroups) {
  v1::CreateTenantRequest create;
  create.set_tenant_id("acme");
  create.mutable_tenant()->set_display_name("Acme");
  v1::Tenant tenant;
  {
    grpc::ClientContext context;
    const auto status = cluster_->client(0).tenants->CreateTenant(&context, create, &tenant);
    ASSERT_TRUE(status.ok()) << status.error_message();
    grpc::ClientContext again;
    EXPECT_EQ(Reason(cluster_->client(1).tenants->CreateTenant(&again, create, &tenant)),
              "TENANT_EXISTS");
  }
  const auto on_worker = [&](int w) {
    const auto stub = worker::v1::Worker::NewStub(
        grpc::CreateChannel(cluster_->worker(w).address(), grpc::InsecureChannelCredentials()));
    v1::GetTenantRequest request;
    request.set_name("tenants/acme");
    v1::Tenant found;
    grpc::ClientContext context;
    context.AddMetadata(services::kInternalTenantHeader, "");
    const grpc::Status status = stub->GetTenant(&context, request, &found);
    return status.ok() ? found.display_name() + "/" + std::to_string(found.quota().disk_bytes())
                       : Reason(status);
  };
  EXPECT_EQ(on_worker(0), "Acme/0");
  EXPECT_EQ(on_worker(1), "Acme/0");
  v1::UpdateTenantRequest update;
  update.mutable_tenant()->set_name("tenants/acme");
  update.mutable_tenant()->mutable_quota()->set_disk_bytes(1 << 30);
  update.mutable_update_mask()->add_paths("quota.disk_bytes");
  grpc::ClientContext update_context;
  ASSERT_TRUE(cluster_->client(1).tenants->UpdateTenant(&update_context, update, &tenant).ok());
  EXPECT_EQ(tenant.display_name(), "Acme");
  EXPECT_EQ(on_worker(0), "Acme/1073741824");
  EXPECT_EQ(on_worker(1), "Acme/1073741824");
  v1::ListTenantsResponse listed;
  grpc::ClientContext list_context;
  ASSERT_TRUE(cluster_->client(0).tenants->ListTenants(&list_context, {}, &listed).ok());
  ASSERT_EQ(listed.tenants_size(), 2);
  EXPECT_EQ(listed.tenants(0).name(), "tenants/acme");
  EXPECT_EQ(listed.tenants(1).name(), "tenants/default");
  v1::GetTenantRequest get;
  get.set_name("tenants/default");
  grpc::ClientContext get_context;
  ASSERT_TRUE(cluster_->client(0).tenants->GetTenant(&get_context, get, &tenant).ok());
  EXPECT_EQ(tenant.usage().corpora(), kCorpora);
  // A worker that was away makes it so when it is back.
  cluster_->worker(0).process().Signal(SIGTERM);
  EXPECT_EQ(cluster_->worker(0).process().Wait(), 0);
  v1::DeleteTenantRequest remove;
  remove.set_name("tenants/acme");
  google::protobuf::Empty empty;
  grpc::ClientContext remove_context;
  const auto removed = cluster_->client(0).tenants->DeleteTenant(&remove_context, remove, &empty);
  EXPECT_TRUE(removed.ok()) << removed.error_message();
  EXPECT_EQ(on_worker(1), "TENANT_NOT_FOUND");
  cluster_->worker(0).Start();
  cluster_->worker(0).AwaitHealth(true);
  EXPECT_EQ(on_worker(0), "TENANT_NOT_FOUND");
}

TEST_F(ClusterTest, ARollingRestartFailsNoUnaryCall) {
  Load load(cluster_->balanced(), {On(0), On(1)});
  for (Server* server :
       {&cluster_->gateway(0), &cluster_->gateway(1), &cluster_->worker(0), &cluster_->worker(1)}) {
    server->process().Signal(SIGTERM);
    EXPECT_EQ(server->process().Wait(), 0) << server->name();
    server->Start();
    cluster_->AwaitWhole();
  }
  EXPECT_EQ(load.Stop(), 0) << load.last();
  for (int w = 0; w < 2; ++w) ExpectFirstAnswer(cluster_->balanced(), w);
}

TEST_F(ClusterTest, AKilledWorkerComesBackWithItsAnswersAndTheOthersGoOn) {
  cluster_->worker(0).process().Signal(SIGKILL);
  cluster_->worker(0).process().Wait();
  ExpectFirstAnswer(cluster_->client(0), 1);
  const grpc::Status away = cluster_->client(0).Get(On(0), nullptr, milliseconds(700));
  const services::RemoteError error = services::ToRemoteError(away);
  EXPECT_EQ(error.code, absl::StatusCode::kUnavailable) << away.error_message();
  EXPECT_EQ(error.reason, "GROUP_UNREACHABLE");
  EXPECT_EQ(error.metadata.at("group"), "g1");
  EXPECT_TRUE(error.retry_seconds.has_value());
  const auto list = [](Client& client) {
    v1::ListCorporaRequest request;
    request.set_parent(kTenant);
    v1::ListCorporaResponse response;
    grpc::ClientContext context;
    const grpc::Status status = client.corpora->ListCorpora(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  };
  // A gateway without patience says what is missing; one with patience waits.
  const Server hasty("gateway-c",
                     {Program("lectern-gateway"), "--etcd_endpoints=" + cluster_->etcd().address(),
                      "--group_patience_seconds=0"},
                     cluster_->directory() / "gateway-c.log");
  hasty.AwaitHealth(true);
  Client impatient(hasty.address());
  const v1::ListCorporaResponse partial = list(impatient);
  EXPECT_THAT(partial.unreachable(), ElementsAre("groups/g1"));
  EXPECT_EQ(static_cast<size_t>(partial.corpora_size()), cluster_->HeldBy(1).size());
  EXPECT_EQ(Reason(impatient.Get(On(0))), "GROUP_UNREACHABLE");
  EXPECT_TRUE(impatient.Get(On(1)).ok());
  auto whole = std::async(std::launch::async, [&] { return list(cluster_->client(1)); });
  cluster_->worker(0).Start();
  const v1::ListCorporaResponse complete = whole.get();
  EXPECT_THAT(complete.unreachable(), IsEmpty());
  EXPECT_EQ(complete.corpora_size(), kCorpora);
  ExpectFirstAnswer(cluster_->client(0), 0);
}

// Asks the worker itself, with the placement that a gateway would send.
grpc::Status AskWorker(const std::string& address, const std::string& id, int64_t epoch) {
  const auto stub =
      worker::v1::Worker::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  v1::GetCorpusRequest request;
  request.set_name(CorpusPath(id));
  v1::Corpus corpus;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  if (epoch != 0) {
    context.AddMetadata(services::kInternalPlacementHeader, std::to_string(epoch) + "/" + id);
  }
  return stub->GetCorpus(&context, request, &corpus);
}

TEST_F(ClusterTest, AWorkerAnswersOnlyForPlacementsThatItHolds) {
  const std::string& address = cluster_->worker(0).address();
  EXPECT_EQ(Reason(AskWorker(address, On(0), 0)), "NOT_OWNER");
  EXPECT_EQ(Reason(AskWorker(address, On(0), 1)), "NOT_OWNER");
  EXPECT_EQ(Reason(AskWorker(address, On(1), 1)), "NOT_OWNER");
  EXPECT_EQ(AskWorker(address, On(0), int64_t{1} << 40).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_GE(cluster_->worker(0).Metric("lectern_cluster_refused_total{reason=\"NOT_OWNER\"}"), 4);
}

TEST_F(ClusterTest, APausedWorkerAnswersNothingUntilItHasItsLeaseAgain) {
  Server& worker = cluster_->worker(0);
  const std::string id = On(0);
  // An answer that is on its way when the worker stops.
  v1::AskRequest question = Question(id, "Tell me everything.");
  question.set_max_tokens(4096);
  question.mutable_sampling()->set_temperature(2);
  grpc::ClientContext context;
  const auto reader = cluster_->client(0).answers->Ask(&context, question);
  v1::AskResponse message;
  while (reader->Read(&message) && !message.has_text()) {
  }
  worker.process().Signal(SIGSTOP);
  std::this_thread::sleep_for(std::chrono::seconds(kLeaseSeconds));
  // So that it cannot have its lease again before it has shown what it does without.
  cluster_->etcd().process().Signal(SIGSTOP);
  worker.process().Signal(SIGCONT);
  EXPECT_EQ(Reason(AskWorker(worker.address(), id, 1)), "LEASE_EXPIRED");
  bool completed = false;
  while (reader->Read(&message)) completed = completed || message.has_completed();
  const grpc::Status cut = reader->Finish();
  EXPECT_FALSE(completed);
  EXPECT_EQ(cut.error_code(), grpc::StatusCode::UNAVAILABLE) << cut.error_message();
  worker.AwaitHealth(false);
  EXPECT_EQ(worker.Metric("lectern_cluster_answering"), 0);
  EXPECT_EQ(worker.Metric("lectern_cluster_lease_remaining_seconds"), 0);
  cluster_->etcd().process().Signal(SIGCONT);
  // The gateways wait for it, and it answers as ever.
  ExpectFirstAnswer(cluster_->client(1), 0);
}

TEST_F(ClusterTest, AnswersGoOnWhileEtcdIsAwayAndTheLeaseHolds) {
  cluster_->etcd().process().Signal(SIGKILL);
  cluster_->etcd().process().Wait();
  for (int w = 0; w < 2; ++w) ExpectFirstAnswer(cluster_->client(w), w);
  for (int g = 0; g < 2; ++g) cluster_->gateway(g).AwaitMetric("lectern_cluster_store_up", 0);
  cluster_->worker(0).AwaitMetric("lectern_cluster_store_up", 0);
  EXPECT_TRUE(cluster_->gateway(0).Healthy());
  // What needs etcd says so.
  EXPECT_EQ(Reason(cluster_->client(0).Create("late")), "CLUSTER_STORE_UNREACHABLE");
  cluster_->etcd().Start();
  for (int w = 0; w < 2; ++w) cluster_->worker(w).AwaitMetric("lectern_cluster_store_up", 1);
  cluster_->AwaitWhole();
  for (int w = 0; w < 2; ++w) ExpectFirstAnswer(cluster_->client(w), w);
}

TEST_F(ClusterTest, WhatIsDeletedWhileItsOwnerIsPausedDoesNotComeBack) {
  Server& worker = cluster_->worker(0);
  // A corpus of its own on the first group.
  std::string id;
  for (int i = 0; id.empty(); ++i) {
    const std::string candidate = "gone" + std::to_string(i);
    ASSERT_TRUE(cluster_->client(0).Create(candidate).ok());
    if (cluster_->HeldBy(0).count(candidate) == 1) {
      id = candidate;
    } else {
      ASSERT_TRUE(cluster_->client(0).Delete(candidate).ok());
    }
  }
  ASSERT_TRUE(cluster_->client(0).Upload(id, "a", RandomText(20, 9)).ok());
  worker.process().Signal(SIGSTOP);
  // Not while the paused worker could still answer a reader.
  EXPECT_EQ(Reason(cluster_->client(0).Delete(id, milliseconds(500))), "GROUP_UNREACHABLE");
  EXPECT_EQ(Reason(cluster_->client(1).Get(id)), "CORPUS_NOT_FOUND");
  const grpc::Status deleted = cluster_->client(1).Delete(id);
  EXPECT_TRUE(deleted.ok()) << deleted.error_message();
  // The name is free, and another corpus takes it on the group that is there.
  const grpc::Status anew = cluster_->client(0).Create(id);
  ASSERT_TRUE(anew.ok()) << anew.error_message();
  EXPECT_EQ(cluster_->HeldBy(1).count(id), 1u);
  worker.process().Signal(SIGCONT);
  cluster_->gateway(0).AwaitMetric("lectern_cluster_pending_purges", 0);
  worker.AwaitHealth(true);
  EXPECT_EQ(cluster_->HeldBy(0).count(id), 0u);
  v1::Corpus corpus;
  ASSERT_TRUE(cluster_->client(1).Get(id, &corpus).ok());
  EXPECT_EQ(corpus.document_count(), 0);
  EXPECT_TRUE(cluster_->client(0).Delete(id).ok());
  EXPECT_EQ(cluster_->HeldBy(1).count(id), 0u);
}

}  // namespace
}  // namespace lectern::testing
