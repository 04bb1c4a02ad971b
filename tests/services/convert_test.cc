// Requests become engine values, or are refused with the field that is wrong.
#include <gmock/gmock.h>
#include <google/protobuf/util/time_util.h>
#include <gtest/gtest.h>

#include <atomic>

#include "engine/error/error.h"
#include "services/rpc/errors.h"
#include "services/rpc/executor.h"
#include "services/worker/convert.h"

namespace lectern::services {
namespace {

using google::protobuf::util::TimeUtil;

constexpr int64_t kNow = 1'800'000'000'000'000;

// "REASON field" of an error.
template <typename T>
std::string Refusal(const absl::StatusOr<T>& result) {
  if (result.ok()) return "";
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
  return engine::ReasonOf(result.status()) + " " + engine::MetadataOf(result.status()).at("field");
}

TEST(ToCorpusUpdate, ChangesOnlyWhatTheMaskNames) {
  v1::UpdateCorpusRequest request;
  request.mutable_corpus()->set_display_name("new");
  *request.mutable_corpus()->mutable_ttl() = TimeUtil::SecondsToDuration(60);
  EXPECT_EQ(Refusal(ToCorpusUpdate(request, kNow)), "FIELD_MASK_INVALID update_mask");

  request.mutable_update_mask()->add_paths("display_name");
  auto update = ToCorpusUpdate(request, kNow);
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->display_name, "new");
  EXPECT_FALSE(update->expire_time_us.has_value());

  request.mutable_update_mask()->add_paths("ttl");
  update = ToCorpusUpdate(request, kNow);
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->expire_time_us, kNow + 60'000'000);

  request.mutable_update_mask()->add_paths("document_count");
  EXPECT_EQ(Refusal(ToCorpusUpdate(request, kNow)), "FIELD_MASK_INVALID update_mask");
}

TEST(ToCorpusUpdate, AnExpiryNamedAndAbsentIsRemoved) {
  v1::UpdateCorpusRequest request;
  request.mutable_update_mask()->add_paths("expire_time");
  const auto update = ToCorpusUpdate(request, kNow);
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->expire_time_us, 0);
}

TEST(ExpireTime, RefusesNonsense) {
  v1::Corpus corpus;
  EXPECT_EQ(*ExpireTime(corpus, kNow), 0);
  *corpus.mutable_ttl() = TimeUtil::SecondsToDuration(-1);
  EXPECT_EQ(Refusal(ExpireTime(corpus, kNow)), "FIELD_INVALID ttl");
  corpus.mutable_ttl()->set_seconds(0);
  EXPECT_EQ(Refusal(ExpireTime(corpus, kNow)), "FIELD_INVALID ttl");
  corpus.mutable_ttl()->set_seconds(int64_t{1} << 60);
  EXPECT_EQ(Refusal(ExpireTime(corpus, kNow)), "FIELD_INVALID ttl");
  corpus.mutable_ttl()->set_seconds(1);
  *corpus.mutable_expire_time() = TimeUtil::MicrosecondsToTimestamp(kNow + 1);
  EXPECT_EQ(Refusal(ExpireTime(corpus, kNow)), "FIELD_INVALID ttl") << "both are given";
  corpus.clear_ttl();
  EXPECT_EQ(*ExpireTime(corpus, kNow), kNow + 1);
  EXPECT_EQ(Refusal(ExpireTime(corpus, kNow + 1)), "FIELD_INVALID expire_time");
}

TEST(ToAskRequest, TargetsAndSampling) {
  v1::AskRequest request;
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "TARGET_MISSING target");
  request.set_session("tenants/default/corpora/c/sessions/s");
  request.set_question("why?");
  auto ask = ToAskRequest(request, "default", 5);
  ASSERT_TRUE(ask.ok()) << ask.status();
  EXPECT_EQ(ask->target.corpus.corpus, "c");
  EXPECT_EQ(ask->target.session, "s");
  EXPECT_EQ(ask->target.generation, "");
  EXPECT_EQ(ask->sampling.top_p, 1) << "0 means 1";
  EXPECT_EQ(ask->deadline_us, 5);

  request.mutable_sampling()->set_temperature(2.5);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID sampling.temperature");
  request.mutable_sampling()->set_temperature(std::nan(""));
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID sampling.temperature");
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_top_p(1.1);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID sampling.top_p");
  request.mutable_sampling()->set_top_p(0.5);
  request.set_max_tokens(-1);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID max_tokens");
  request.set_max_tokens(4097);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID max_tokens");
  request.set_max_tokens(4096);
  EXPECT_FALSE(ToAskRequest(request, "default", 0)->adaptive_coverage.has_value());
  request.set_adaptive_coverage(0);
  EXPECT_EQ(ToAskRequest(request, "default", 0)->adaptive_coverage, 0);
  request.set_adaptive_coverage(1.01);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID adaptive_coverage");
  request.set_adaptive_coverage(0.8);
  EXPECT_EQ(ToAskRequest(request, "default", 0)->adaptive_coverage, 0.8);
  EXPECT_EQ(ToAskRequest(request, "default", 0)->priority, engine::Priority::kInteractive);
  request.set_priority(v1::BATCH);
  EXPECT_EQ(ToAskRequest(request, "default", 0)->priority, engine::Priority::kBatch);
  request.set_priority(static_cast<v1::Priority>(3));
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID priority");
  request.set_priority(v1::INTERACTIVE);
  request.set_evidence_limit(65);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID evidence_limit");
  request.set_evidence_limit(64);
  request.set_contexts(8);
  EXPECT_EQ(ToAskRequest(request, "default", 0)->contexts, 8);
  request.set_contexts(9);
  EXPECT_EQ(Refusal(ToAskRequest(request, "default", 0)), "FIELD_INVALID contexts");
}

TEST(ToUploadHeader, ChecksIdNameAndHash) {
  v1::UploadDocumentRequest::Header header;
  header.set_parent("tenants/default/corpora/c");
  EXPECT_FALSE(ToUploadHeader(header, "default")->sha256.has_value());
  header.set_sha256(std::string(64, 'a'));
  EXPECT_EQ(Refusal(ToUploadHeader(header, "default")), "FIELD_INVALID header.sha256");
  header.set_sha256(std::string(32, 'a'));
  EXPECT_EQ(ToUploadHeader(header, "default")->sha256->at(31), 'a');
  header.set_document_id("Not an id");
  EXPECT_EQ(Refusal(ToUploadHeader(header, "default")), "ID_INVALID header.document_id");
  header.clear_document_id();
  header.set_display_name(std::string(257, 'x'));
  EXPECT_EQ(Refusal(ToUploadHeader(header, "default")), "FIELD_INVALID header.display_name");
}

TEST(ToPageRequest, CapsTheSize) {
  EXPECT_EQ(ToPageRequest(5000, "t")->page_size, kMaxPageSize);
  EXPECT_EQ(Refusal(ToPageRequest(-1, "")), "FIELD_INVALID page_size");
}

TEST(ToProto, OperationsEndWithAnErrorOrAGeneration) {
  engine::Operation operation;
  operation.name = {{"default", "c"}, "op"};
  operation.done = true;
  operation.error = engine::InvalidArgument("CONTEXT_TOO_LONG", "too long", {{"tokens", "9"}});
  const v1::Operation failed = ToProto(operation, "r1");
  EXPECT_EQ(failed.name(), "tenants/default/corpora/c/operations/op");
  const RemoteError error = ToRemoteError(failed.error());
  EXPECT_EQ(error.reason, "CONTEXT_TOO_LONG");
  EXPECT_EQ(error.request_id, "r1");
  EXPECT_EQ(failed.generation(), "");

  operation.error = absl::OkStatus();
  operation.generation = "g1";
  const v1::Operation done = ToProto(operation, "r1");
  EXPECT_FALSE(done.has_error());
  EXPECT_EQ(done.generation(), "tenants/default/corpora/c/generations/g1");
}

TEST(Executor, RunsEverythingBeforeItEnds) {
  std::atomic<int> ran = 0;
  {
    Executor executor(2, 1000);
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(executor.Submit([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 500);
}

TEST(Executor, RefusesWhatDoesNotFit) {
  std::mutex gate;
  gate.lock();
  std::atomic<bool> started = false;
  Executor executor(1, 1);
  ASSERT_TRUE(executor.Submit([&] {
    started = true;
    const std::lock_guard wait(gate);
  }));
  while (!started) std::this_thread::yield();
  EXPECT_TRUE(executor.Submit([] {}));
  EXPECT_FALSE(executor.Submit([] {}));
  executor.MustSubmit([] {});
  gate.unlock();
}

}  // namespace
}  // namespace lectern::services
