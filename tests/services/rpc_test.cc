// Names, errors on the wire, admission.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "engine/error/error.h"
#include "google/rpc/error_details.pb.h"
#include "services/rpc/admission.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"

namespace lectern::services {
namespace {

using ::testing::HasSubstr;

template <typename Detail>
std::optional<Detail> DetailOf(const google::rpc::Status& status) {
  Detail detail;
  for (const auto& any : status.details()) {
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

TEST(Names, RoundTrip) {
  const auto corpus = ParseCorpusName("tenants/default/corpora/hand.book_1", "default", "name");
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ(corpus->tenant, "default");
  EXPECT_EQ(corpus->corpus, "hand.book_1");
  EXPECT_EQ(CorpusResourceName(*corpus), "tenants/default/corpora/hand.book_1");

  const auto session = ParseResourceName("tenants/default/corpora/c/sessions/7",
                                         Collection::kSessions, "default", "name");
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->id, "7");
  EXPECT_EQ(FormatResourceName(*session, Collection::kSessions),
            "tenants/default/corpora/c/sessions/7");
  EXPECT_EQ(FormatResourceName(session->corpus, Collection::kGenerations, ""), "");
}

TEST(Names, RefusesWhatIsNoName) {
  for (const std::string name :
       {"", "default", "tenants/default", "tenants/default/corpora/", "tenants/default/corpora/c/",
        "tenants/default/corpora/C", "tenants/default/corpora/-c", "tenants//corpora/c",
        "tenants/default/corpora/c/documents/d", "/tenants/default/corpora/c",
        "tenants/default/corpora/c d", "tenants/default/corpus/c"}) {
    const auto parsed = ParseCorpusName(name, "default", "parent");
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(engine::ReasonOf(parsed.status()), "NAME_INVALID") << name;
    EXPECT_EQ(engine::MetadataOf(parsed.status()).at("field"), "parent");
  }
  const std::string longest(63, 'a');
  EXPECT_TRUE(ParseCorpusName("tenants/default/corpora/" + longest, "default", "name").ok());
  EXPECT_FALSE(ParseCorpusName("tenants/default/corpora/" + longest + "a", "default", "name").ok());
}

TEST(Names, AnotherTenantDoesNotExist) {
  const auto parsed = ParseCorpusName("tenants/other/corpora/c", "default", "name");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine::ReasonOf(parsed.status()), "TENANT_NOT_FOUND");
}

TEST(Names, NewIds) {
  EXPECT_TRUE(CheckNewId("", "corpus_id").ok());
  EXPECT_TRUE(CheckNewId("a-b", "corpus_id").ok());
  EXPECT_EQ(engine::ReasonOf(CheckNewId("a/b", "corpus_id")), "ID_INVALID");
}

TEST(Errors, CarryReasonMetadataAndRequestId) {
  const absl::Status status = engine::InvalidArgument(
      "QUESTION_TOO_LONG", "900 tokens, at most 512", {{"tokens", "900"}, {"limit", "512"}});
  const grpc::Status sent = ToGrpcStatus(status, "request-1");
  EXPECT_EQ(sent.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(sent.error_message(), "900 tokens, at most 512");

  const RemoteError seen = ToRemoteError(sent);
  EXPECT_EQ(seen.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(seen.reason, "QUESTION_TOO_LONG");
  EXPECT_EQ(seen.request_id, "request-1");
  EXPECT_THAT(seen.metadata, ::testing::UnorderedElementsAre(::testing::Pair("tokens", "900"),
                                                             ::testing::Pair("limit", "512")));
  EXPECT_FALSE(seen.retry_seconds.has_value());
  const auto bad_request = DetailOf<google::rpc::BadRequest>(ToRpcStatus(status, "request-1"));
  ASSERT_TRUE(bad_request.has_value());
  EXPECT_EQ(bad_request->field_violations(0).field(), "question");
}

TEST(Errors, DetailsFollowTheCode) {
  const auto rpc = [](absl::StatusCode code, std::string_view reason) {
    return ToRpcStatus(engine::Error(code, reason, "m"), "r");
  };
  const auto full = rpc(absl::StatusCode::kResourceExhausted, "QUEUE_FULL");
  EXPECT_TRUE(DetailOf<google::rpc::QuotaFailure>(full).has_value());
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(full).has_value());
  const auto disk = rpc(absl::StatusCode::kResourceExhausted, "DISK_FULL");
  EXPECT_TRUE(DetailOf<google::rpc::QuotaFailure>(disk).has_value());
  EXPECT_FALSE(DetailOf<google::rpc::RetryInfo>(disk).has_value()) << "waiting does not help";
  const auto state = rpc(absl::StatusCode::kFailedPrecondition, "CORPUS_NOT_INGESTED");
  ASSERT_TRUE(DetailOf<google::rpc::PreconditionFailure>(state).has_value());
  EXPECT_EQ(DetailOf<google::rpc::PreconditionFailure>(state)->violations(0).type(),
            "CORPUS_NOT_INGESTED");
  const auto draining = rpc(absl::StatusCode::kUnavailable, "SERVER_DRAINING");
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(draining).has_value());
}

TEST(Errors, AStatusWithoutAReasonGetsItsCodesName) {
  EXPECT_EQ(ToRemoteError(ToGrpcStatus(absl::InternalError("x"), "r")).reason, "INTERNAL");
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus(), "r").ok());
}

TEST(Errors, LongMessagesAreCutBetweenCharacters) {
  std::string message;
  while (message.size() < 9000) message += "\xC3\xA9";
  const grpc::Status sent = ToGrpcStatus(absl::InternalError(message), "r");
  EXPECT_LT(sent.error_message().size(), 2000u);
  EXPECT_EQ(sent.error_message().size() % 2, 1u) << "whole two-byte characters and three dots";
  EXPECT_LT(sent.error_details().size(), 4000u);
  EXPECT_THAT(sent.error_message(), HasSubstr("..."));
}

TEST(Admission, RefusesOverTheLimitAndAfterClose) {
  Admission admission(2);
  ASSERT_TRUE(admission.Enter().ok());
  ASSERT_TRUE(admission.Enter().ok());
  const absl::Status full = admission.Enter();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine::ReasonOf(full), "QUEUE_FULL");
  admission.Leave();
  EXPECT_TRUE(admission.Enter().ok());
  admission.Close();
  admission.Leave();
  const absl::Status closed = admission.Enter();
  EXPECT_EQ(closed.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(engine::ReasonOf(closed), "SERVER_DRAINING");
}

TEST(Admission, WaitsUntilAllHaveLeft) {
  Admission admission(8);
  ASSERT_TRUE(admission.Enter().ok());
  EXPECT_FALSE(admission.WaitIdle(std::chrono::steady_clock::now()));
  std::thread leaver([&] { admission.Leave(); });
  EXPECT_TRUE(admission.WaitIdle(std::chrono::steady_clock::now() + std::chrono::minutes(1)));
  leaver.join();
}

TEST(Names, TenantIdsOfOneTenantOrOfAny) {
  EXPECT_EQ(*ParseTenantId("tenants/acme", "acme", "name"), "acme");
  EXPECT_EQ(*ParseTenantId("tenants/acme", "", "name"), "acme");
  EXPECT_EQ(engine::ReasonOf(ParseTenantId("tenants/acme", "other", "name").status()),
            "TENANT_NOT_FOUND");
  for (const char* name : {"", "acme", "tenants/", "tenants/A", "tenants/a/corpora/c"}) {
    EXPECT_EQ(engine::ReasonOf(ParseTenantId(name, "", "name").status()), "NAME_INVALID") << name;
  }
}

TEST(Errors, ARefusalThatKnowsWhenToComeBackSaysSo) {
  const grpc::Status status =
      ToGrpcStatus(engine::Error(absl::StatusCode::kResourceExhausted, "TOKEN_QUOTA_EXCEEDED",
                                 "wait", {{"retry_after_ms", "2500"}}),
                   "r");
  EXPECT_EQ(ToRemoteError(status).retry_seconds, 2.5);
  const grpc::Status full = ToGrpcStatus(
      engine::Error(absl::StatusCode::kResourceExhausted, "DISK_QUOTA_EXCEEDED", "full"), "r");
  EXPECT_FALSE(ToRemoteError(full).retry_seconds.has_value());
}

}  // namespace
}  // namespace lectern::services
