// Log lines, metrics of calls, the metrics page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "services/rpc/errors.h"
#include "services/telemetry/call_record.h"
#include "services/telemetry/http.h"
#include "services/telemetry/levels.h"
#include "services/telemetry/log.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/process_collector.h"

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
  CallMetrics metrics_{*registry_, "gateway", "1.2.3", MethodNames()};
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
    record.add_usage(usage);
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

TEST_F(MetricsTest, WhatIsKnownBeforehandIsThereAtZero) {
  const std::string page = Page();
  for (const char* method : {"Ask", "Retrieve", "CountTokens"}) {
    EXPECT_THAT(page,
                HasSubstr(std::string("lectern_requests_total{component=\"gateway\",code=\"OK\","
                                      "method=\"Answers/") +
                          method + "\"} 0\n"));
  }
  EXPECT_THAT(page,
              HasSubstr("lectern_errors_total{component=\"gateway\",reason=\"INTERNAL\"} 0\n"));
  EXPECT_THAT(page,
              HasSubstr("lectern_errors_total{component=\"gateway\",reason=\"DISK_FULL\"} 0\n"));
}

std::string Serialized(const prometheus::Collectable& source) {
  return prometheus::TextSerializer().Serialize(source.Collect());
}

TEST(Levels, AreReadWhenAskedAndLeftOutWhenUnknown) {
  std::optional<double> second;
  Levels levels;
  double first = 1;
  levels.Add("level", "A level.", {"part", "first"}, [&] { return first; });
  levels.Add("level", "A level.", {"part", "second"}, [&] { return second; });
  levels.Add("other", "Another.", [] { return 7; });
  EXPECT_EQ(Serialized(levels),
            "# HELP level A level.\n# TYPE level gauge\nlevel{part=\"first\"} 1\n"
            "# HELP other Another.\n# TYPE other gauge\nother 7\n");
  first = 2;
  second = 3;
  EXPECT_THAT(Serialized(levels), HasSubstr("level{part=\"first\"} 2\nlevel{part=\"second\"} 3\n"));
}

double Value(const std::string& page, const std::string& name) {
  const size_t at = page.find("\n" + name + " ");
  return at == std::string::npos ? -1 : std::stod(page.substr(at + name.size() + 2));
}

TEST(ProcessCollector, TellsWhatTheSystemSays) {
  const ProcessCollector process;
  const std::string before = Serialized(process);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_GT(Value(before, "process_start_time_seconds"), now - 24 * 3600);
  EXPECT_LE(Value(before, "process_start_time_seconds"), now + 1);
  EXPECT_GT(Value(before, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(Value(before, "process_virtual_memory_bytes"),
            Value(before, "process_resident_memory_bytes"));
  EXPECT_GE(Value(before, "process_threads"), 1);
  EXPECT_GT(Value(before, "process_max_fds"), Value(before, "process_open_fds"));
  std::vector<std::FILE*> files;
  for (int i = 0; i < 5; ++i) files.push_back(std::fopen("/dev/null", "r"));
  const std::string after = Serialized(process);
  for (std::FILE* file : files) std::fclose(file);
  EXPECT_EQ(Value(after, "process_open_fds"), Value(before, "process_open_fds") + 5);
  EXPECT_GE(Value(after, "process_cpu_seconds_total"), Value(before, "process_cpu_seconds_total"));
}

TEST_F(MetricsTest, TwoServersCannotShareAPort) {
  const auto first = MetricsServer::Start("127.0.0.1:0", {registry_}, [] { return true; });
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = MetricsServer::Start((*first)->address(), {registry_}, [] { return true; });
  EXPECT_EQ(engine::ReasonOf(second.status()), "LISTEN_FAILED");
}

}  // namespace
}  // namespace lectern::services
