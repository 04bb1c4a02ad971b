// Tenants at the engine: what they share (nothing), what their quotas let in, what is left of them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::FileWith;
using testing::IngestAndWait;
using testing::RandomText;
using testing::TemporaryDirectory;
using testing::Upload;

class TenantsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TemporaryDirectory();
    testing::WriteRandomModel({}, model_->path());
  }
  static void TearDownTestSuite() { delete model_; }

  static std::unique_ptr<Engine> Open(const std::string& data_dir = "") {
    auto engine = Engine::Open({.data_dir = data_dir,
                                .model_dir = model_->path(),
                                .pool_bytes = 64 << 20,
                                .index_bytes = 64 << 20});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }

  static AskRequest Question(const CorpusName& corpus, const std::string& text) {
    return {.target = {.corpus = corpus}, .question = text, .max_tokens = 8};
  }

  static TemporaryDirectory* model_;
};
TemporaryDirectory* TenantsTest::model_ = nullptr;

// Text that no compression shortens, so that a file that holds it holds it as it is.
std::string Incompressible(size_t bytes, uint64_t seed) {
  static constexpr char kDigits[] =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";
  std::mt19937_64 random(seed);
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += kDigits[random() % 64];
  return text;
}

TEST_F(TenantsTest, AreMadeListedChangedAndDeleted) {
  const auto engine = Open();
  const absl::StatusOr<Tenant> acme =
      engine->CreateTenant("acme", "Acme", {.disk_bytes = 1 << 20, .tokens_per_minute = 60});
  ASSERT_TRUE(acme.ok()) << acme.status();
  EXPECT_EQ(acme->display_name, "Acme");
  EXPECT_EQ(acme->quota.disk_bytes, 1 << 20);
  EXPECT_GT(acme->create_time_us, 0);
  EXPECT_EQ(engine->CreateTenant("", "", {})->id.size(), 16u) << "an id is made";
  EXPECT_EQ(ReasonOf(engine->CreateTenant("acme", "", {}).status()), "TENANT_EXISTS");
  EXPECT_EQ(ReasonOf(engine->CreateTenant("No", "", {}).status()), "ID_INVALID");
  EXPECT_EQ(ReasonOf(engine->CreateTenant("n", "", {.disk_bytes = -1}).status()), "QUOTA_INVALID");
  EXPECT_EQ(engine->ListTenants({})->items.size(), 3u);

  const absl::StatusOr<Tenant> changed = engine->UpdateTenant("acme", {.concurrent_requests = 4});
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->quota.concurrent_requests, 4);
  EXPECT_EQ(changed->quota.tokens_per_minute, 60) << "what was not named stays";
  EXPECT_EQ(engine->UpdateTenant("acme", {.weight = 1000})->quota.weight, 1000);
  EXPECT_EQ(ReasonOf(engine->UpdateTenant("acme", {.weight = 1001}).status()), "QUOTA_INVALID");
  EXPECT_EQ(ReasonOf(engine->CreateTenant("n", "", {.weight = -1}).status()), "QUOTA_INVALID");
  EXPECT_EQ(engine->GetTenant("acme")->quota.weight, 1000);
  EXPECT_EQ(engine->GetTenant("acme")->usage->tokens_available, 60);

  ASSERT_TRUE(engine->CreateCorpus({"acme", "c"}, "", 0).ok());
  const absl::Status kept = engine->DeleteTenant("acme", /*force=*/false);
  EXPECT_EQ(ReasonOf(kept), "TENANT_NOT_EMPTY");
  EXPECT_EQ(MetadataOf(kept).at("corpora"), "1");
  ASSERT_TRUE(engine->DeleteTenant("acme", /*force=*/true).ok());
  EXPECT_EQ(ReasonOf(engine->GetTenant("acme").status()), "TENANT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->GetCorpus({"acme", "c"}).status()), "TENANT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->DeleteTenant("acme", true)), "TENANT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->DeleteTenant("default", true)), "TENANT_PROTECTED");
  ASSERT_TRUE(engine->CreateTenant("acme", "", {}).ok());
  EXPECT_TRUE(engine->ListCorpora("acme", {})->items.empty()) << "another tenant of the same id";
}

TEST_F(TenantsTest, TheSameBytesAreCachedPerTenant) {
  const auto engine = Open();
  ASSERT_TRUE(engine->CreateTenant("a", "", {}).ok());
  ASSERT_TRUE(engine->CreateTenant("b", "", {}).ok());
  const std::string text = RandomText(1500, 1);
  for (const char* tenant : {"a", "b"}) Upload(*engine, {tenant, "c"}, "d", text);

  const Operation first = IngestAndWait(*engine, {"a", "c"});
  ASSERT_TRUE(first.error.ok()) << first.error;
  EXPECT_EQ(first.tokens_cached, 0);
  // The other tenant finds nothing, asked twice and in both ways.
  EXPECT_EQ(engine->IngestCorpus({"b", "c"}, /*validate_only=*/true)->tokens_cached, 0);
  const Operation other = IngestAndWait(*engine, {"b", "c"});
  EXPECT_EQ(other.tokens_total, first.tokens_total);
  EXPECT_EQ(other.tokens_cached, 0);
  // The same tenant finds every full block.
  Upload(*engine, {"a", "again"}, "d", text);
  const Operation own = IngestAndWait(*engine, {"a", "again"});
  EXPECT_EQ(own.tokens_cached, first.tokens_total / 128 * 128);
  // And what a tenant deletes is still there for the other.
  ASSERT_TRUE(engine->DeleteTenant("a", true).ok());
  EXPECT_TRUE(AskAndWait(*engine, Question({"b", "c"}, "what?")).ok());
}

TEST_F(TenantsTest, NamesOfOneTenantMeanNothingInAnother) {
  const auto engine = Open();
  ASSERT_TRUE(engine->CreateTenant("a", "", {}).ok());
  ASSERT_TRUE(engine->CreateTenant("b", "", {}).ok());
  Upload(*engine, {"a", "c"}, "d", RandomText(300, 1));
  const Operation ingested = IngestAndWait(*engine, {"a", "c"});
  ASSERT_TRUE(ingested.error.ok());
  Upload(*engine, {"b", "c"}, "e", RandomText(300, 2));
  ASSERT_TRUE(IngestAndWait(*engine, {"b", "c"}).error.ok());

  EXPECT_EQ(ReasonOf(engine->GetDocument({{"b", "c"}, "d"}).status()), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->GetOperation({{"b", "c"}, ingested.name.id}).status()),
            "OPERATION_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->GetGeneration({{"b", "c"}, ingested.generation}).status()),
            "GENERATION_NOT_FOUND");
  EXPECT_EQ(engine->ListOperations({"b", "c"}, {})->items.size(), 1u);
  AskRequest question = Question({"b", "c"}, "what?");
  question.target.generation = ingested.generation;
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, question).status()), "GENERATION_NOT_FOUND");
}

TEST_F(TenantsTest, DiskQuotasRefuseUploadsAndIngestsBeforeTheyCost) {
  const auto engine = Open();
  const std::string text = RandomText(1500, 3);
  ASSERT_TRUE(
      engine->CreateTenant("t", "", {.disk_bytes = static_cast<int64_t>(text.size()) + 100}).ok());
  Upload(*engine, {"t", "c"}, "fits", text);

  auto upload = engine->BeginUpload({.corpus = {"t", "c"}, .document_id = "large"});
  ASSERT_TRUE(upload.ok()) << upload.status();
  const absl::Status refused = (*upload)->Append(text);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "DISK_QUOTA_EXCEEDED");
  EXPECT_EQ(MetadataOf(refused).at("bytes"), std::to_string(text.size()));
  EXPECT_EQ(MetadataOf(refused).at("used"), std::to_string(text.size()));
  upload->reset();

  // Two that fit one by one do not fit together.
  auto one = engine->BeginUpload({.corpus = {"t", "c"}, .document_id = "one"});
  auto two = engine->BeginUpload({.corpus = {"t", "c"}, .document_id = "two"});
  ASSERT_TRUE((*one)->Append(std::string(80, 'x')).ok());
  ASSERT_TRUE((*two)->Append(std::string(80, 'y')).ok());
  EXPECT_TRUE((*one)->Finish().ok());
  EXPECT_EQ(ReasonOf((*two)->Finish().status()), "DISK_QUOTA_EXCEEDED");

  const Operation operation = IngestAndWait(*engine, {"t", "c"});
  EXPECT_EQ(ReasonOf(operation.error), "DISK_QUOTA_EXCEEDED");
  EXPECT_EQ(engine->GetStats()->corpus_prefill_tokens, 0) << "nothing was prefilled";
  ASSERT_TRUE(engine->UpdateTenant("t", {.disk_bytes = 64 << 20}).ok());
  EXPECT_TRUE(IngestAndWait(*engine, {"t", "c"}).error.ok());
  EXPECT_GT(engine->GetTenant("t")->usage->cache_bytes, 0);
  EXPECT_EQ(engine->GetTenant("t")->usage->document_bytes, static_cast<int64_t>(text.size()) + 80);
}

TEST_F(TenantsTest, TokenQuotasCountWhatIsComputed) {
  const auto engine = Open();
  ASSERT_TRUE(engine->CreateTenant("t", "", {.tokens_per_minute = 2000}).ok());
  ASSERT_TRUE(engine->CreateTenant("free", "", {}).ok());
  for (const char* tenant : {"t", "free"}) {
    Upload(*engine, {tenant, "c"}, "d", RandomText(1500, 4));
    ASSERT_TRUE(IngestAndWait(*engine, {tenant, "c"}).error.ok());
  }
  const Tenant tenant = *engine->GetTenant("t");
  EXPECT_GT(tenant.usage->tokens_total, 2000);
  EXPECT_LT(tenant.usage->tokens_available, 0) << "a debt";
  const absl::Status refused = AskAndWait(*engine, Question({"t", "c"}, "what?")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "TOKEN_QUOTA_EXCEEDED");
  EXPECT_GT(std::stoll(MetadataOf(refused).at("retry_after_ms")), 0);
  EXPECT_EQ(ReasonOf(engine->IngestCorpus({"t", "c"}, false).status()), "TOKEN_QUOTA_EXCEEDED");
  EXPECT_TRUE(engine->IngestCorpus({"t", "c"}, /*validate_only=*/true).ok()) << "computes nothing";

  const absl::StatusOr<Answer> other = AskAndWait(*engine, Question({"free", "c"}, "what?"));
  ASSERT_TRUE(other.ok()) << "nobody else pays: " << other.status();
  const int64_t before = engine->GetTenant("free")->usage->tokens_total;
  ASSERT_TRUE(AskAndWait(*engine, Question({"free", "c"}, "what?")).ok());
  EXPECT_EQ(engine->GetTenant("free")->usage->tokens_total - before,
            other->usage.prompt_tokens + other->usage.generated_tokens);
}

TEST_F(TenantsTest, RequestQuotasCountQuestionsAndUploads) {
  const auto engine = Open();
  ASSERT_TRUE(engine->CreateTenant("t", "", {.concurrent_requests = 1}).ok());
  Upload(*engine, {"t", "c"}, "d", RandomText(300, 5));
  ASSERT_TRUE(IngestAndWait(*engine, {"t", "c"}).error.ok());
  auto upload = engine->BeginUpload({.corpus = {"t", "c"}, .document_id = "slow"});
  ASSERT_TRUE(upload.ok());
  EXPECT_EQ(engine->GetTenant("t")->usage->requests, 1);
  const absl::Status refused = AskAndWait(*engine, Question({"t", "c"}, "what?")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "REQUEST_QUOTA_EXCEEDED");
  EXPECT_EQ(ReasonOf(engine->BeginUpload({.corpus = {"t", "c"}, .document_id = "x"}).status()),
            "REQUEST_QUOTA_EXCEEDED");
  upload->reset();
  for (int i = 0; i < 5; ++i) {  // each takes the one place and gives it back
    EXPECT_TRUE(AskAndWait(*engine, Question({"t", "c"}, "what?")).ok());
  }
  EXPECT_EQ(engine->GetTenant("t")->usage->requests, 0);
}

// One place, a queue of four, and a tenant that fills it: the other's question is let in, answered
// next, and what makes room for it is told so.
TEST_F(TenantsTest, AFullQueueMakesRoomForWhoHasLess) {
  auto opened = Engine::Open({.model_dir = model_->path(),
                              .pool_bytes = 64 << 20,
                              .index_bytes = 64 << 20,
                              .queue_limit = 4,
                              .batch_limit = 1});
  ASSERT_TRUE(opened.ok()) << opened.status();
  const std::unique_ptr<Engine> engine = *std::move(opened);
  for (const char* tenant : {"loud", "quiet"}) {
    ASSERT_TRUE(engine->CreateTenant(tenant, "", {}).ok());
    Upload(*engine, {tenant, "c"}, "d", RandomText(200, 7));
    ASSERT_TRUE(IngestAndWait(*engine, {tenant, "c"}).error.ok());
  }
  std::promise<void> let_go;
  std::shared_future<void> gone(let_go.get_future());
  std::mutex mutex;
  std::vector<std::pair<std::string, absl::Status>> ended;  // in order
  std::vector<std::future<void>> all;
  const auto ask = [&](const std::string& tenant, const std::string& name, bool blocks) {
    auto over = std::make_shared<std::promise<void>>();
    all.push_back(over->get_future());
    const auto ticket =
        engine->Ask(Question({tenant, "c"}, name),
                    {.started =
                         [gone, blocks](const AnswerStarted&) {
                           if (blocks)
                             gone.wait();  // the step thread, so that the others wait in the queue
                         },
                     .done =
                         [&, over, name](absl::StatusOr<Answer> answer) {
                           {
                             std::lock_guard lock(mutex);
                             ended.emplace_back(name, answer.status());
                           }
                           over->set_value();
                         }});
    if (!ticket.ok()) {
      all.pop_back();
      return ticket.status();
    }
    return absl::OkStatus();
  };
  ASSERT_TRUE(ask("loud", "first", true).ok());
  while (engine->GetStats()->running_requests == 0) std::this_thread::yield();
  for (const char* name : {"second", "third", "fourth"}) ASSERT_TRUE(ask("loud", name, false).ok());
  EXPECT_EQ(ReasonOf(ask("loud", "fifth", false)), "QUEUE_FULL");
  EXPECT_TRUE(ask("quiet", "other", false).ok());
  let_go.set_value();
  for (std::future<void>& over : all) over.wait();
  std::vector<std::string> order;
  for (const auto& [name, status] : ended) {
    order.push_back(name);
    EXPECT_EQ(ReasonOf(status), name == "fourth" ? "QUEUE_FULL" : "") << name;
  }
  EXPECT_THAT(order,
              ::testing::UnorderedElementsAre("first", "second", "third", "fourth", "other"));
  EXPECT_EQ(engine->GetStats()->displaced_requests, 1);
  EXPECT_LT(std::ranges::find(order, "other"), std::ranges::find(order, "second"));
}

// Deletes with `destroy`, and looks for what was there in every file of the data directory.
void ExpectNothingIsLeft(const std::string& model_dir, const std::string& tenant,
                         const std::function<void(Engine&)>& destroy) {
  const TemporaryDirectory data;
  const auto open = [&] {
    auto engine = Engine::Open({.data_dir = data.path(),
                                .model_dir = model_dir,
                                .pool_bytes = 64 << 20,
                                .index_bytes = 64 << 20});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  };
  const std::string document = Incompressible(48, 11);
  const std::string question = Incompressible(48, 12);
  const std::string title = Incompressible(48, 13);
  {
    const auto engine = open();
    ASSERT_TRUE(engine->CreateTenant("secret", "", {}).ok());
    Upload(*engine, {"default", "stays"}, "d", RandomText(800, 6));
    ASSERT_TRUE(IngestAndWait(*engine, {"default", "stays"}).error.ok());
    ASSERT_TRUE(engine->CreateCorpus({tenant, "c"}, title, 0).ok());
    Upload(*engine, {tenant, "c"}, "d", RandomText(800, 7) + " " + document);
    ASSERT_TRUE(IngestAndWait(*engine, {tenant, "c"}).error.ok());
    ASSERT_TRUE(engine->CreateSession({{tenant, "c"}, "s"}, "", 0).ok());
    AskRequest ask = {
        .target = {.corpus = {tenant, "c"}, .session = "s"}, .question = question, .max_tokens = 4};
    ASSERT_TRUE(AskAndWait(*engine, ask).ok());
  }
  std::vector<std::string> secrets = testing::StoredCacheSamples(data.path(), tenant, "c");
  secrets.insert(secrets.end(), {document, question, title});
  for (const std::string& secret : secrets) {
    ASSERT_NE(FileWith(data.path(), secret), "") << "this test would find nothing";
  }
  const std::vector<std::string> kept =
      testing::StoredCacheSamples(data.path(), "default", "stays");

  const auto engine = open();
  destroy(*engine);
  // The collection runs behind; files that were dropped go soon after. A minute is many times
  // what it takes.
  std::string left;
  for (int round = 0; round < 1200; ++round) {
    left.clear();
    for (size_t i = 0; i < secrets.size(); ++i) {
      const std::string file = FileWith(data.path(), secrets[i]);
      if (!file.empty()) left += fmt::format("secret {} of {} in {}\n", i, secrets.size(), file);
    }
    if (left.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(left, "");
  for (const std::string& bytes : kept) EXPECT_NE(FileWith(data.path(), bytes), "");
  EXPECT_TRUE(
      AskAndWait(*engine,
                 {.target = {.corpus = {"default", "stays"}}, .question = "what?", .max_tokens = 4})
          .ok());
}

TEST_F(TenantsTest, OfADeletedTenantNoByteIsLeftOnDisk) {
  ExpectNothingIsLeft(model_->path(), "secret", [](Engine& engine) {
    ASSERT_TRUE(engine.DeleteTenant("secret", /*force=*/true).ok());
  });
}

TEST_F(TenantsTest, OfADeletedCorpusNoByteIsLeftOnDisk) {
  ExpectNothingIsLeft(model_->path(), "default", [](Engine& engine) {
    ASSERT_TRUE(engine.DeleteCorpus({"default", "c"}).ok());
  });
}

}  // namespace
}  // namespace lectern::engine
