// Log lines, metrics of calls, the metrics page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "services/rpc/errors.h"
#include "services/telemetry/call_record.h"
#include "services/telemetry/http.h"
#include "services/telemetry/log.h"
#include "services/telemetry/metrics.h"

namespace lectern::services {
namespace {

using ::testing::HasSubstr;

TEST(Log, TextQuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(FormatLog(LogFormat::kText, "T", LogLevel::kInfo, "request",
                      {{"method", "Answers/Ask"},
                       {"count", 3},
                       {"share", 0.5},
                       {"ok", true},
                       {"message", "two words \"quoted\"\nand a line"},
                       {"empty", ""}}),
            "T info request method=Answers/Ask count=3 share=0.5 ok=true "
            "message=\"two words \\\"quoted\\\"\\nand a line\" empty=\"\"");
}

TEST(Log, JsonKeepsTypes) {
  const std::string line = FormatLog(LogFormat::kJson, "T", LogLevel::kWarning, "request",
                                     {{"count", 3}, {"ok", false}, {"bytes", "caf\xE9"}});
  const nlohmann::json json = nlohmann::json::parse(line);
  EXPECT_EQ(json["time"], "T");
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["event"], "request");
  EXPECT_EQ(json["count"], 3);
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["bytes"], "caf\xEF\xBF\xBD") << "what is not UTF-8 is replaced";
}

class MetricsTest : public ::testing::Test {
 protected:
  std::string Page() { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  CallMetrics metrics_{*registry_, "gateway", "1.2.3"};
  Admission admission_{1};
};

TEST_F(MetricsTest, CountsCallsErrorsAndAnswers) {
  {
    CallRecord record(&metrics_, admission_, "Answers/Ask");
    ASSERT_TRUE(record.admitted().ok());
    EXPECT_THAT(Page(), HasSubstr("lectern_requests_in_flight{component=\"gateway\"} 1"));
    CallRecord refused(&metrics_, admission_, "Answers/Ask");
    EXPECT_EQ(engine::ReasonOf(refused.admitted()), "QUEUE_FULL");
    refused.Finish(ToGrpcStatus(refused.admitted(), "r"));
    v1::Usage usage;
    usage.set_generated_tokens(11);
    usage.set_disk_bytes(4096);
    usage.mutable_time_to_first_token()->set_nanos(30'000'000);
    usage.mutable_total_time()->set_nanos(130'000'000);
    record.set_usage(usage);
    record.Finish(grpc::Status::OK);
  }
  const std::string page = Page();
  EXPECT_THAT(
      page,
      HasSubstr(
          "lectern_requests_total{component=\"gateway\",code=\"OK\",method=\"Answers/Ask\"} 1"));
  EXPECT_THAT(page, HasSubstr("lectern_requests_total{component=\"gateway\",code=\"RESOURCE_"
                              "EXHAUSTED\",method=\"Answers/Ask\"} 1"));
  EXPECT_THAT(page,
              HasSubstr("lectern_errors_total{component=\"gateway\",reason=\"QUEUE_FULL\"} 1"));
  EXPECT_THAT(page,
              HasSubstr("lectern_cache_bytes_total{component=\"gateway\",tier=\"disk\"} 4096"));
  EXPECT_THAT(page,
              HasSubstr("lectern_time_to_first_token_seconds_sum{component=\"gateway\"} 0.03"));
  EXPECT_THAT(page,
              HasSubstr("lectern_time_per_output_token_seconds_sum{component=\"gateway\"} 0.01"));
  EXPECT_THAT(page, HasSubstr("lectern_requests_in_flight{component=\"gateway\"} 0"));
  EXPECT_THAT(page, HasSubstr("lectern_build_info{component=\"gateway\",version=\"1.2.3\"} 1"));
  EXPECT_TRUE(admission_.Enter().ok()) << "a finished call has left";
}

TEST_F(MetricsTest, TwoServersCannotShareAPort) {
  const auto first = MetricsServer::Start("127.0.0.1:0", {registry_}, [] { return true; });
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = MetricsServer::Start((*first)->address(), {registry_}, [] { return true; });
  EXPECT_EQ(engine::ReasonOf(second.status()), "LISTEN_FAILED");
}

}  // namespace
}  // namespace lectern::services
