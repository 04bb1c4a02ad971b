// The public API over real gRPC and real processes, as `lectern serve` and as gateway and worker:
// what it promises when all goes well, and every kind of bad input.
#include <gmock/gmock.h>
#include <google/protobuf/util/time_util.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <chrono>
#include <set>
#include <thread>

#include "tests/e2e/deployment.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using google::protobuf::util::TimeUtil;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One deployment per topology for all tests of this file; each test has corpora of its own.
class ApiTest : public ::testing::TestWithParam<Topology> {
 protected:
  static void TearDownTestSuite() {
    for (auto& deployment : deployments_) {
      if (deployment == nullptr) continue;
      EXPECT_TRUE(deployment->StopAll());
      deployment.reset();
    }
    for (TemporaryDirectory*& directory : directories_) {
      delete directory;
      directory = nullptr;
    }
  }

  void SetUp() override {
    const auto index = static_cast<size_t>(GetParam());
    if (deployments_[index] != nullptr) return;
    directories_[index] = new TemporaryDirectory();
    deployments_[index] = std::make_unique<Deployment>(
        DeploymentOptions{.topology = GetParam(),
                          .data_dir = directories_[index]->path(),
                          .model_dir = SmallModel(),
                          .engine_flags = {"--document_limit_bytes=4MiB"}});
  }

  Deployment& deployment() { return *deployments_[static_cast<size_t>(GetParam())]; }

  // A corpus with one document, ingested.
  void MakeCorpus(const std::string& id, int words = 600, uint64_t seed = 1) {
    ASSERT_TRUE(CreateCorpus(deployment(), id).ok());
    ASSERT_TRUE(Upload(deployment(), id, "a", RandomText(words, seed)).ok());
    v1::Operation operation;
    const grpc::Status status = Ingest(deployment(), id, &operation);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_FALSE(operation.has_error()) << operation.error().message();
  }

  grpc::Status GetCorpus(const std::string& id, v1::Corpus* corpus) {
    v1::GetCorpusRequest request;
    request.set_name(CorpusPath(id));
    grpc::ClientContext context;
    return deployment().corpora().GetCorpus(&context, request, corpus);
  }

  std::vector<v1::Document> Documents(const std::string& corpus, int page_size = 0) {
    std::vector<v1::Document> documents;
    v1::ListDocumentsRequest request;
    request.set_parent(CorpusPath(corpus));
    request.set_page_size(page_size);
    do {
      v1::ListDocumentsResponse response;
      grpc::ClientContext context;
      EXPECT_TRUE(deployment().documents().ListDocuments(&context, request, &response).ok());
      EXPECT_LE(response.documents_size(), page_size > 0 ? page_size : 50);
      documents.insert(documents.end(), response.documents().begin(), response.documents().end());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return documents;
  }

  v1::Session CreateSession(const std::string& corpus, const std::string& id) {
    v1::CreateSessionRequest request;
    request.set_parent(CorpusPath(corpus));
    request.set_session_id(id);
    v1::Session session;
    grpc::ClientContext context;
    const grpc::Status status = deployment().sessions().CreateSession(&context, request, &session);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return session;
  }

  static std::array<std::unique_ptr<Deployment>, 2> deployments_;
  static std::array<TemporaryDirectory*, 2> directories_;
};
std::array<std::unique_ptr<Deployment>, 2> ApiTest::deployments_;
std::array<TemporaryDirectory*, 2> ApiTest::directories_;

TEST_P(ApiTest, FromUploadToAnswer) {
  const std::string text = RandomText(2500, 7);
  ASSERT_TRUE(CreateCorpus(deployment(), "story").ok());
  v1::UploadDocumentRequest::Header header;
  header.set_parent(CorpusPath("story"));
  header.set_document_id("one");
  header.set_display_name("The first");
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  header.set_sha256(digest);
  v1::Document document;
  ASSERT_TRUE(Upload(deployment(), header, text, &document).ok());
  EXPECT_EQ(document.name(), CorpusPath("story") + "/documents/one");
  EXPECT_EQ(document.display_name(), "The first");
  EXPECT_EQ(document.media_type(), "text/plain");
  EXPECT_EQ(document.size_bytes(), static_cast<int64_t>(text.size()));
  EXPECT_EQ(document.sha256(), digest);
  v1::Document again;
  ASSERT_TRUE(Upload(deployment(), header, text, &again).ok()) << "the same bytes are no error";
  EXPECT_EQ(again.create_time().nanos(), document.create_time().nanos());

  v1::Operation operation;
  ASSERT_TRUE(Ingest(deployment(), "story", &operation).ok());
  ASSERT_FALSE(operation.has_error()) << operation.error().message();
  EXPECT_EQ(operation.metadata().phase(), v1::IngestMetadata::DONE);
  EXPECT_EQ(operation.metadata().tokens_done(), operation.metadata().tokens_total());
  EXPECT_GT(operation.metadata().tokens_total(), 2500);

  v1::Corpus corpus;
  ASSERT_TRUE(GetCorpus("story", &corpus).ok());
  EXPECT_EQ(corpus.current_generation(), operation.generation());
  EXPECT_EQ(corpus.document_count(), 1);
  EXPECT_FALSE(corpus.stale());

  const Asked asked = Ask(deployment(), Question("story", "What happened?"));
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_EQ(asked.started.generation(), operation.generation());
  EXPECT_EQ(asked.started.context_tokens(), operation.metadata().tokens_total());
  EXPECT_EQ(asked.completed.answer(), asked.text);
  EXPECT_EQ(asked.completed.usage().cached_tokens(), operation.metadata().tokens_total());
  EXPECT_EQ(asked.completed.usage().corpus_prefill_tokens(), 0);
  EXPECT_GT(asked.completed.usage().generated_tokens(), 0);
  EXPECT_GT(asked.completed.coverage().mean(), 0);
  EXPECT_LE(asked.completed.coverage().mean(), 1);
  EXPECT_FALSE(asked.completed.coverage().calibrated());
  EXPECT_FALSE(asked.completed.coverage().has_risk());
  EXPECT_GT(asked.completed.usage().selections(), 0);
  EXPECT_EQ(asked.completed.usage().selected_blocks(), 16 * asked.completed.usage().selections());
  EXPECT_EQ(asked.completed.usage().widened_selections(), 0);
  EXPECT_LE(asked.completed.usage().accepted_tokens(), asked.completed.usage().drafted_tokens());
  EXPECT_LT(asked.completed.usage().accepted_tokens(), asked.completed.usage().generated_tokens());
  v1::AskRequest closely = Question("story", "What happened?");
  closely.set_adaptive_coverage(1);
  const Asked widened = Ask(deployment(), closely);
  ASSERT_TRUE(widened.status.ok()) << widened.status.error_message();
  EXPECT_EQ(widened.completed.usage().widened_selections(), widened.completed.usage().selections());
  EXPECT_NEAR(widened.completed.coverage().mean(), 1, 1e-5) << "all there is";
  ASSERT_GT(asked.completed.evidence_size(), 0);
  for (const v1::Evidence& span : asked.completed.evidence()) {
    EXPECT_EQ(span.document(), document.name());
    EXPECT_EQ(span.quote(), text.substr(span.byte_begin(), span.byte_end() - span.byte_begin()));
  }
  EXPECT_EQ(Ask(deployment(), Question("story", "What happened?")).text, asked.text);

  v1::AskRequest pinned = Question("story", "What happened?");
  pinned.set_generation(operation.generation());
  EXPECT_EQ(Ask(deployment(), pinned).text, asked.text);

  v1::RetrieveRequest retrieve;
  retrieve.set_corpus(CorpusPath("story"));
  retrieve.set_query("What happened?");
  retrieve.set_limit(3);
  v1::RetrieveResponse spans;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment().answers().Retrieve(&context, retrieve, &spans).ok());
  EXPECT_EQ(spans.spans_size(), 3);
  EXPECT_EQ(spans.generation(), operation.generation());
}

TEST_P(ApiTest, ANewGenerationTakesOverAndTheOldOneStays) {
  MakeCorpus("grow");
  v1::Corpus before;
  ASSERT_TRUE(GetCorpus("grow", &before).ok());
  ASSERT_TRUE(Upload(deployment(), "grow", "b", RandomText(300, 2)).ok());
  v1::Corpus stale;
  ASSERT_TRUE(GetCorpus("grow", &stale).ok());
  EXPECT_TRUE(stale.stale());
  EXPECT_EQ(stale.current_generation(), before.current_generation());

  v1::Operation operation;
  ASSERT_TRUE(Ingest(deployment(), "grow", &operation).ok());
  EXPECT_GT(operation.metadata().tokens_cached(), 0) << "the common prefix costs nothing";
  v1::ListGenerationsRequest list;
  list.set_parent(CorpusPath("grow"));
  v1::ListGenerationsResponse generations;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment().corpora().ListGenerations(&context, list, &generations).ok());
  ASSERT_EQ(generations.generations_size(), 2);
  EXPECT_EQ(generations.generations(0).name(), operation.generation()) << "newest first";
  EXPECT_EQ(generations.generations(1).name(), before.current_generation());
  EXPECT_EQ(generations.generations(0).documents_size(), 2);
  EXPECT_EQ(generations.generations(0).residency(), v1::Generation::COMPLETE);

  v1::AskRequest old = Question("grow", "Who?");
  old.set_generation(before.current_generation());
  EXPECT_TRUE(Ask(deployment(), old).status.ok());
}

TEST_P(ApiTest, ValidateOnlyCountsAndStoresNothing) {
  ASSERT_TRUE(CreateCorpus(deployment(), "validate").ok());
  ASSERT_TRUE(Upload(deployment(), "validate", "a", RandomText(400, 3)).ok());
  v1::IngestCorpusRequest request;
  request.set_name(CorpusPath("validate"));
  request.set_validate_only(true);
  v1::Operation operation;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment().corpora().IngestCorpus(&context, request, &operation).ok());
  EXPECT_TRUE(operation.done());
  EXPECT_TRUE(operation.generation().empty());
  EXPECT_GT(operation.metadata().tokens_total(), 400);
  EXPECT_EQ(operation.metadata().tokens_cached(), 0);
  EXPECT_EQ(Reason(Ask(deployment(), Question("validate", "?")).status), "CORPUS_NOT_INGESTED");
}

TEST_P(ApiTest, SessionsRememberForkAndEnd) {
  MakeCorpus("talk", 1500, 4);
  const v1::Session session = CreateSession("talk", "first");
  EXPECT_EQ(session.name(), CorpusPath("talk") + "/sessions/first");
  v1::AskRequest question = Question("talk", "What is it?");
  question.set_session(session.name());
  const Asked one = Ask(deployment(), question);
  ASSERT_TRUE(one.status.ok()) << one.status.error_message();
  EXPECT_EQ(one.completed.turn(), 1);
  v1::GetSessionRequest get;
  get.set_name(session.name());
  v1::Session remembered;
  grpc::ClientContext get_context;
  ASSERT_TRUE(deployment().sessions().GetSession(&get_context, get, &remembered).ok());
  EXPECT_EQ(remembered.turn_count(), 1);
  EXPECT_GE(remembered.token_count(), one.completed.usage().cached_tokens() +
                                          one.completed.usage().prompt_tokens() +
                                          one.completed.usage().generated_tokens());
  question.set_question("And then?");
  const Asked two = Ask(deployment(), question);
  ASSERT_TRUE(two.status.ok()) << two.status.error_message();
  EXPECT_EQ(two.completed.turn(), 2);
  EXPECT_EQ(two.completed.usage().cached_tokens(), remembered.token_count())
      << "the first turn is read, not computed";

  v1::ForkSessionRequest fork;
  fork.set_name(session.name());
  fork.set_turn(1);
  fork.set_session_id("second");
  v1::Session forked;
  grpc::ClientContext fork_context;
  ASSERT_TRUE(deployment().sessions().ForkSession(&fork_context, fork, &forked).ok());
  EXPECT_EQ(forked.turn_count(), 1);
  EXPECT_EQ(forked.forked_from(), session.name());
  question.set_session(forked.name());
  EXPECT_EQ(Ask(deployment(), question).text, two.text) << "the same past gives the same answer";

  v1::ListTurnsRequest list;
  list.set_parent(session.name());
  v1::ListTurnsResponse turns;
  grpc::ClientContext turns_context;
  ASSERT_TRUE(deployment().sessions().ListTurns(&turns_context, list, &turns).ok());
  ASSERT_EQ(turns.turns_size(), 2);
  EXPECT_EQ(turns.turns(0).question(), "What is it?");
  EXPECT_EQ(turns.turns(1).answer(), two.text);

  fork.set_turn(9);
  fork.set_session_id("third");
  grpc::ClientContext far_context;
  EXPECT_EQ(Reason(deployment().sessions().ForkSession(&far_context, fork, &forked)),
            "TURN_OUT_OF_RANGE");
  v1::DeleteSessionRequest remove;
  remove.set_name(session.name());
  google::protobuf::Empty empty;
  grpc::ClientContext delete_context;
  ASSERT_TRUE(deployment().sessions().DeleteSession(&delete_context, remove, &empty).ok());
  question.set_session(session.name());
  EXPECT_EQ(Reason(Ask(deployment(), question).status), "SESSION_NOT_FOUND");
}

TEST_P(ApiTest, ListsArePagedAndTokensStayValid) {
  ASSERT_TRUE(CreateCorpus(deployment(), "pages").ok());
  std::vector<std::string> expected;
  for (const char* id : {"d3", "d1", "d2", "d5", "d4"}) {
    ASSERT_TRUE(Upload(deployment(), "pages", id, std::string("text of ") + id).ok());
    expected.push_back(CorpusPath("pages") + "/documents/" + id);
  }
  std::vector<std::string> names;
  for (const v1::Document& document : Documents("pages", 2)) names.push_back(document.name());
  EXPECT_EQ(names, expected) << "in the order of upload";

  v1::ListDocumentsRequest request;
  request.set_parent(CorpusPath("pages"));
  request.set_page_size(2);
  v1::ListDocumentsResponse page;
  grpc::ClientContext first_context;
  ASSERT_TRUE(deployment().documents().ListDocuments(&first_context, request, &page).ok());
  v1::DeleteDocumentRequest remove;
  remove.set_name(expected[2]);
  google::protobuf::Empty empty;
  grpc::ClientContext delete_context;
  ASSERT_TRUE(deployment().documents().DeleteDocument(&delete_context, remove, &empty).ok());
  request.set_page_token(page.next_page_token());
  grpc::ClientContext second_context;
  ASSERT_TRUE(deployment().documents().ListDocuments(&second_context, request, &page).ok());
  ASSERT_EQ(page.documents_size(), 2);
  EXPECT_EQ(page.documents(0).name(), expected[3]) << "what was deleted in between is passed over";

  request.set_page_token("not a token");
  grpc::ClientContext bad_context;
  EXPECT_EQ(Reason(deployment().documents().ListDocuments(&bad_context, request, &page)),
            "BAD_PAGE_TOKEN");
  request.set_page_token("");
  request.set_page_size(-1);
  grpc::ClientContext negative_context;
  EXPECT_EQ(Reason(deployment().documents().ListDocuments(&negative_context, request, &page)),
            "FIELD_INVALID");

  std::set<std::string> corpora;
  v1::ListCorporaRequest list;
  list.set_parent(kTenant);
  list.set_page_size(1);
  do {
    v1::ListCorporaResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(deployment().corpora().ListCorpora(&context, list, &response).ok());
    ASSERT_LE(response.corpora_size(), 1);
    if (response.corpora_size() == 1) {
      EXPECT_TRUE(corpora.insert(response.corpora(0).name()).second);
    }
    list.set_page_token(response.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_TRUE(corpora.contains(CorpusPath("pages")));
}

TEST_P(ApiTest, FieldMasksSayWhatChanges) {
  v1::CreateCorpusRequest create;
  create.set_parent(kTenant);
  create.set_corpus_id("masks");
  create.mutable_corpus()->set_display_name("Before");
  v1::Corpus corpus;
  grpc::ClientContext create_context;
  ASSERT_TRUE(deployment().corpora().CreateCorpus(&create_context, create, &corpus).ok());
  EXPECT_FALSE(corpus.has_expire_time());

  const auto update = [&](const std::vector<std::string>& paths) {
    v1::UpdateCorpusRequest request;
    request.mutable_corpus()->set_name(CorpusPath("masks"));
    request.mutable_corpus()->set_display_name("After");
    *request.mutable_corpus()->mutable_ttl() = TimeUtil::SecondsToDuration(3600);
    for (const std::string& path : paths) request.mutable_update_mask()->add_paths(path);
    grpc::ClientContext context;
    return deployment().corpora().UpdateCorpus(&context, request, &corpus);
  };
  ASSERT_TRUE(update({"ttl"}).ok());
  EXPECT_EQ(corpus.display_name(), "Before");
  const int64_t left = corpus.expire_time().seconds() - corpus.update_time().seconds();
  EXPECT_GE(left, 3599);
  EXPECT_LE(left, 3601);
  ASSERT_TRUE(update({"expire_time", "display_name"}).ok());
  EXPECT_EQ(corpus.display_name(), "After");
  EXPECT_FALSE(corpus.has_expire_time()) << "named in the mask and absent: kept for ever";
  EXPECT_EQ(Reason(update({"document_count"})), "FIELD_MASK_INVALID");
  EXPECT_EQ(Reason(update({})), "FIELD_MASK_INVALID");
}

TEST_P(ApiTest, CorporaExpire) {
  v1::CreateCorpusRequest create;
  create.set_parent(kTenant);
  create.set_corpus_id("brief");
  *create.mutable_corpus()->mutable_ttl() = TimeUtil::MillisecondsToDuration(300);
  v1::Corpus corpus;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment().corpora().CreateCorpus(&context, create, &corpus).ok());
  grpc::Status status;
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    status = GetCorpus("brief", &corpus);
  } while (status.ok());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Reason(status), "CORPUS_NOT_FOUND");
}

TEST_P(ApiTest, RequestIdsComeBack) {
  v1::GetCorpusRequest request;
  request.set_name(CorpusPath("nothing"));
  v1::Corpus corpus;
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "trace me");
  const grpc::Status status = deployment().corpora().GetCorpus(&context, request, &corpus);
  EXPECT_EQ(services::ToRemoteError(status).request_id, "trace me");
  const auto& metadata = context.GetServerInitialMetadata();
  ASSERT_EQ(metadata.count("x-request-id"), 1u);
  const auto& id = metadata.find("x-request-id")->second;
  EXPECT_EQ(std::string(id.data(), id.size()), "trace me");
}

TEST_P(ApiTest, CountsTokensAndTellsLimits) {
  v1::Model model;
  grpc::ClientContext model_context;
  ASSERT_TRUE(deployment().models().GetModel(&model_context, {}, &model).ok());
  EXPECT_EQ(model.name(), "models/default");
  EXPECT_EQ(model.block_tokens(), 128);
  EXPECT_EQ(model.selected_blocks(), 16);
  EXPECT_EQ(model.attention(), "sparse");
  EXPECT_EQ(model.fingerprint().size(), 64u);
  EXPECT_EQ(model.document_limit_bytes(), 4 << 20);

  v1::CountTokensRequest request;
  request.set_parent(kTenant);
  request.set_text("one two three");
  v1::CountTokensResponse count;
  grpc::ClientContext text_context;
  ASSERT_TRUE(deployment().answers().CountTokens(&text_context, request, &count).ok());
  EXPECT_GT(count.tokens(), 0);
  EXPECT_EQ(count.limit_tokens(), model.context_limit_tokens());
  request.set_question("one two three");
  grpc::ClientContext question_context;
  v1::CountTokensResponse question;
  ASSERT_TRUE(deployment().answers().CountTokens(&question_context, request, &question).ok());
  EXPECT_EQ(question.limit_tokens(), model.question_limit_tokens());
  request.clear_content();
  grpc::ClientContext empty_context;
  EXPECT_EQ(Reason(deployment().answers().CountTokens(&empty_context, request, &count)),
            "FIELD_MISSING");

  v1::GetModelRequest other;
  other.set_name("models/other");
  grpc::ClientContext other_context;
  EXPECT_EQ(Reason(deployment().models().GetModel(&other_context, other, &model)),
            "MODEL_NOT_FOUND");
}

TEST_P(ApiTest, HealthKnowsEveryService) {
  for (const char* service :
       {"", "lectern.v1.Answers", "lectern.v1.Corpora", "lectern.v1.Documents", "lectern.v1.Models",
        "lectern.v1.Operations", "lectern.v1.Sessions"}) {
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(deployment().health().Check(&context, request, &response).ok()) << service;
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING) << service;
  }
  HealthCheckRequest request;
  request.set_service("lectern.v1.Nothing");
  HealthCheckResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(deployment().health().Check(&context, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_P(ApiTest, MetricsAndHealthzTell) {
  MakeCorpus("metered");
  ASSERT_TRUE(Ask(deployment(), Question("metered", "What?")).status.ok());
  Ask(deployment(), Question("no-such-corpus", "What?"));
  const Page page = Fetch(deployment().metrics_address(), "/metrics");
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(
      page.body,
      HasSubstr(
          "lectern_requests_total{component=\"gateway\",code=\"OK\",method=\"Answers/Ask\"}"));
  EXPECT_THAT(page.body,
              HasSubstr("lectern_errors_total{component=\"gateway\",reason=\"CORPUS_NOT_FOUND\"}"));
  EXPECT_THAT(page.body, HasSubstr("lectern_time_to_first_token_seconds_count"));
  EXPECT_THAT(page.body, HasSubstr("lectern_build_info"));
  if (GetParam() == Topology::kServe) {
    for (const char* name :
         {"lectern_prefill_tokens_total", "lectern_cached_tokens_total",
          "lectern_generated_tokens_total", "lectern_queue_requests", "lectern_block_lookups_total",
          "lectern_block_hits_total", "lectern_pool_blocks"}) {
      EXPECT_THAT(page.body, HasSubstr(name));
    }
  }
  EXPECT_EQ(Fetch(deployment().metrics_address(), "/healthz").status, 200);
  EXPECT_EQ(Fetch(deployment().metrics_address(), "/nothing").status, 404);
}

TEST_P(ApiTest, CallersThatGiveUpStopTheirWork) {
  MakeCorpus("cancel", 3000, 5);
  v1::AskRequest request = Question("cancel", "Tell me everything.");
  request.set_max_tokens(4096);
  // With a temperature, a random model hardly ever ends early.
  request.mutable_sampling()->set_temperature(2);
  {
    grpc::ClientContext context;
    const auto reader = deployment().answers().Ask(&context, request);
    v1::AskResponse message;
    ASSERT_TRUE(reader->Read(&message));
    context.TryCancel();
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(150));
    const auto reader = deployment().answers().Ask(&context, request);
    v1::AskResponse message;
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  // Nothing runs on for callers that have gone.
  v1::Stats stats;
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    grpc::ClientContext context;
    ASSERT_TRUE(deployment().models().GetStats(&context, {}, &stats).ok());
  } while (stats.running_requests() + stats.queued_requests() > 0);
}

TEST_P(ApiTest, OperationsCanBeWatchedListedAndCancelled) {
  ASSERT_TRUE(CreateCorpus(deployment(), "operate").ok());
  ASSERT_TRUE(Upload(deployment(), "operate", "a", RandomText(60'000, 6)).ok());
  v1::IngestCorpusRequest request;
  request.set_name(CorpusPath("operate"));
  v1::Operation operation;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment().corpora().IngestCorpus(&context, request, &operation).ok());
  EXPECT_FALSE(operation.done());

  v1::Operation other;
  grpc::ClientContext second_context;
  const grpc::Status running =
      deployment().corpora().IngestCorpus(&second_context, request, &other);
  EXPECT_EQ(Reason(running), "INGEST_RUNNING");
  EXPECT_EQ(running.error_code(), grpc::StatusCode::FAILED_PRECONDITION);

  v1::WaitOperationRequest wait;
  wait.set_name(operation.name());
  wait.mutable_timeout()->set_nanos(1'000'000);
  v1::Operation waited;
  grpc::ClientContext wait_context;
  ASSERT_TRUE(deployment().operations().WaitOperation(&wait_context, wait, &waited).ok());
  EXPECT_FALSE(waited.done());

  v1::CancelOperationRequest cancel;
  cancel.set_name(operation.name());
  v1::Operation cancelled;
  grpc::ClientContext cancel_context;
  ASSERT_TRUE(deployment().operations().CancelOperation(&cancel_context, cancel, &cancelled).ok());
  wait.clear_timeout();
  grpc::ClientContext end_context;
  ASSERT_TRUE(deployment().operations().WaitOperation(&end_context, wait, &waited).ok());
  EXPECT_TRUE(waited.done());
  EXPECT_EQ(waited.error().code(), grpc::StatusCode::CANCELLED);
  EXPECT_FALSE(services::ToRemoteError(waited.error()).reason.empty());

  v1::ListOperationsRequest list;
  list.set_parent(CorpusPath("operate"));
  v1::ListOperationsResponse operations;
  grpc::ClientContext list_context;
  ASSERT_TRUE(deployment().operations().ListOperations(&list_context, list, &operations).ok());
  ASSERT_EQ(operations.operations_size(), 1);
  EXPECT_EQ(operations.operations(0).name(), operation.name());
  EXPECT_EQ(Reason(Ask(deployment(), Question("operate", "?")).status), "CORPUS_NOT_INGESTED");
}

TEST_P(ApiTest, BadUploadsAreRefusedAndLeaveNothing) {
  ASSERT_TRUE(CreateCorpus(deployment(), "bad").ok());
  const auto reason = [&](const std::string& bytes) {
    return Reason(Upload(deployment(), "bad", "d", bytes));
  };
  EXPECT_EQ(reason(""), "DOCUMENT_EMPTY");
  EXPECT_EQ(reason(std::string("nul \0 byte", 10)), "DOCUMENT_BINARY");
  EXPECT_EQ(reason("caf\xE9 in Latin-1, which is not UTF-8 at all"), "DOCUMENT_NOT_UTF8");
  EXPECT_EQ(reason(std::string((4 << 20) + 1, 'x')), "DOCUMENT_TOO_LARGE");
  v1::UploadDocumentRequest::Header header;
  header.set_parent(CorpusPath("bad"));
  header.set_document_id("d");
  header.set_sha256(std::string(32, '\1'));
  EXPECT_EQ(Reason(Upload(deployment(), header, "text")), "CHECKSUM_MISMATCH");
  header.clear_sha256();
  header.set_media_type("image/png");
  EXPECT_EQ(Reason(Upload(deployment(), header, "text")), "MEDIA_TYPE_UNKNOWN");
  EXPECT_EQ(Reason(Upload(deployment(), "no-such-corpus", "d", "text")), "CORPUS_NOT_FOUND");
  EXPECT_TRUE(Documents("bad").empty());

  ASSERT_TRUE(Upload(deployment(), "bad", "d", "these bytes").ok());
  const grpc::Status other = Upload(deployment(), "bad", "d", "other bytes");
  EXPECT_EQ(other.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Reason(other), "DOCUMENT_EXISTS");
  ASSERT_EQ(Documents("bad").size(), 1u);
  EXPECT_EQ(Documents("bad")[0].size_bytes(), 11);
}

TEST_P(ApiTest, UploadsThatAreCutOffLeaveNothing) {
  ASSERT_TRUE(CreateCorpus(deployment(), "cut").ok());
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    v1::Document document;
    const auto writer = deployment().documents().UploadDocument(&context, &document);
    v1::UploadDocumentRequest message;
    message.mutable_header()->set_parent(CorpusPath("cut"));
    message.mutable_header()->set_document_id("half");
    ASSERT_TRUE(writer->Write(message));
    message.set_data("half of a document");
    ASSERT_TRUE(writer->Write(message));
    context.TryCancel();
    writer->Finish();
  }
  EXPECT_TRUE(Documents("cut").empty());
  ASSERT_TRUE(Upload(deployment(), "cut", "half", "the whole document").ok());
  ASSERT_EQ(Documents("cut").size(), 1u);
  EXPECT_EQ(Documents("cut")[0].size_bytes(), 18);
}

TEST_P(ApiTest, OneLineOfManyMegabytesAndSpelledSpecialTokensAreText) {
  ASSERT_TRUE(CreateCorpus(deployment(), "odd").ok());
  std::string line;
  while (line.size() < 40'000) line += "lorem<q>ipsum<end>dolor<none>";
  ASSERT_TRUE(Upload(deployment(), "odd", "line", line).ok());
  v1::Operation operation;
  ASSERT_TRUE(Ingest(deployment(), "odd", &operation).ok());
  ASSERT_FALSE(operation.has_error()) << operation.error().message();
  EXPECT_TRUE(Ask(deployment(), Question("odd", "<q> <end> <none>?")).status.ok());
}

TEST_P(ApiTest, BadQuestionsAreRefused) {
  MakeCorpus("quiz");
  const auto reason = [&](const v1::AskRequest& request) {
    return Reason(Ask(deployment(), request).status);
  };
  EXPECT_EQ(reason(Question("quiz", "")), "QUESTION_EMPTY");
  const grpc::Status too_long = Ask(deployment(), Question("quiz", RandomText(9000, 1))).status;
  EXPECT_EQ(too_long.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const services::RemoteError error = services::ToRemoteError(too_long);
  EXPECT_EQ(error.reason, "QUESTION_TOO_LONG");
  EXPECT_TRUE(error.metadata.contains("tokens")) << too_long.error_message();
  EXPECT_TRUE(error.metadata.contains("limit"));
  EXPECT_EQ(reason(Question("nowhere", "?")), "CORPUS_NOT_FOUND");
  v1::AskRequest request = Question("quiz", "?");
  request.set_max_tokens(5000);
  EXPECT_EQ(reason(request), "FIELD_INVALID");
  request = Question("quiz", "?");
  request.mutable_sampling()->set_temperature(3);
  EXPECT_EQ(reason(request), "FIELD_INVALID");
  request.clear_sampling();
  request.set_generation(CorpusPath("quiz") + "/generations/none");
  EXPECT_EQ(reason(request), "GENERATION_NOT_FOUND");
  request.set_session(CorpusPath("quiz") + "/sessions/none");
  EXPECT_EQ(reason(request), "SESSION_NOT_FOUND");
  request.clear_target();
  EXPECT_EQ(reason(request), "TARGET_MISSING");
  request.set_corpus("quiz");
  EXPECT_EQ(reason(request), "NAME_INVALID");
  request.set_corpus("tenants/other/corpora/quiz");
  EXPECT_EQ(reason(request), "TENANT_NOT_FOUND");
}

TEST_P(ApiTest, BadCorporaAndOperationsAreRefused) {
  ASSERT_TRUE(CreateCorpus(deployment(), "once").ok());
  EXPECT_EQ(Reason(CreateCorpus(deployment(), "once")), "CORPUS_EXISTS");
  EXPECT_EQ(Reason(CreateCorpus(deployment(), "Not An Id")), "ID_INVALID");
  v1::Operation operation;
  EXPECT_EQ(Reason(Ingest(deployment(), "once", &operation)), "CORPUS_EMPTY");
  EXPECT_EQ(Reason(Ingest(deployment(), "never", &operation)), "CORPUS_NOT_FOUND");
  v1::GetOperationRequest request;
  request.set_name(CorpusPath("once") + "/operations/none");
  grpc::ClientContext context;
  EXPECT_EQ(Reason(deployment().operations().GetOperation(&context, request, &operation)),
            "OPERATION_NOT_FOUND");
}

TEST_P(ApiTest, DeletedCorporaAreGone) {
  MakeCorpus("gone");
  const v1::Session session = CreateSession("gone", "s");
  v1::DeleteCorpusRequest remove;
  remove.set_name(CorpusPath("gone"));
  google::protobuf::Empty empty;
  grpc::ClientContext context;
  ASSERT_TRUE(deployment().corpora().DeleteCorpus(&context, remove, &empty).ok());
  v1::Corpus corpus;
  EXPECT_EQ(Reason(GetCorpus("gone", &corpus)), "CORPUS_NOT_FOUND");
  EXPECT_EQ(Reason(Ask(deployment(), Question("gone", "?")).status), "CORPUS_NOT_FOUND");
  MakeCorpus("gone", 300, 9);
  v1::AskRequest request = Question("gone", "?");
  request.set_session(session.name());
  EXPECT_EQ(Reason(Ask(deployment(), request).status), "SESSION_NOT_FOUND")
      << "a new corpus of the same name inherits nothing";
}

INSTANTIATE_TEST_SUITE_P(Topologies, ApiTest, ::testing::Values(Topology::kServe, Topology::kSplit),
                         [](const auto& info) {
                           return info.param == Topology::kServe ? "Serve" : "Split";
                         });

}  // namespace
}  // namespace lectern::testing
