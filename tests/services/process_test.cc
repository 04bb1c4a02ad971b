// Flag values, addresses, paths.
#include <absl/flags/marshalling.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/async_generic_service.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/error/error.h"
#include "services/process/byte_size.h"
#include "services/process/listen.h"
#include "services/process/paths.h"

namespace lectern::services {
namespace {

std::shared_ptr<grpc::ServerCredentials> Insecure() { return grpc::InsecureServerCredentials(); }

TEST(ByteSize, Parses) {
  const auto parse = [](const char* text) {
    ByteSize size;
    std::string error;
    return AbslParseFlag(text, &size, &error) ? size.bytes : -1;
  };
  EXPECT_EQ(parse("0"), 0);
  EXPECT_EQ(parse("1048576"), 1048576);
  EXPECT_EQ(parse("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(parse("1.5GB"), 1'500'000'000);
  EXPECT_EQ(parse("512MiB"), int64_t{512} << 20);
  for (const char* bad :
       {"", "GiB", "-1", "1 GiB", "2gib", "2GiBs", "1.2.3", "1e3", "99999999TiB"}) {
    EXPECT_EQ(parse(bad), -1) << bad;
  }
}

TEST(ByteSize, WritesWhatItReads) {
  for (const int64_t bytes :
       {int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{2} << 30, int64_t{1234567}}) {
    ByteSize back;
    std::string error;
    ASSERT_TRUE(AbslParseFlag(AbslUnparseFlag({bytes}), &back, &error)) << error;
    EXPECT_EQ(back.bytes, bytes);
  }
  EXPECT_EQ(AbslUnparseFlag({int64_t{2} << 30}), "2GiB");
}

TEST(Listen, TakesAFreePortAndSaysWhichAndWhyNot) {
  // A server needs something to serve.
  grpc::CallbackGenericService service;
  grpc::ServerBuilder builder;
  builder.RegisterCallbackGenericService(&service);
  const auto first = StartServer(builder, "127.0.0.1:0", Insecure(), {"a.Service"});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(first->address, ::testing::MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));

  grpc::CallbackGenericService other_service;
  grpc::ServerBuilder again;
  again.RegisterCallbackGenericService(&other_service);
  const auto second = StartServer(again, first->address, Insecure(), {});
  EXPECT_EQ(engine::ReasonOf(second.status()), "LISTEN_FAILED");
  EXPECT_THAT(std::string(second.status().message()), ::testing::HasSubstr("in use"));

  grpc::CallbackGenericService third_service;
  grpc::ServerBuilder nowhere;
  nowhere.RegisterCallbackGenericService(&third_service);
  EXPECT_EQ(engine::ReasonOf(StartServer(nowhere, "no-port", Insecure(), {}).status()),
            "LISTEN_FAILED");
  StopServer(*first->server, std::chrono::milliseconds(0));
}

TEST(Paths, DataDirFollowsXdg) {
  setenv("XDG_DATA_HOME", "/x/data", 1);
  EXPECT_EQ(DefaultDataDir(), "/x/data/lectern");
  unsetenv("XDG_DATA_HOME");
  setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(DefaultDataDir(), "/home/someone/.local/share/lectern");
}

TEST(Paths, TheBundledModelIsFoundFromABuildInTheSourceTree) {
  const bool inside = std::string_view(LECTERN_BINARY_DIR).starts_with(LECTERN_SOURCE_DIR "/");
  EXPECT_EQ(DefaultModelDir(), inside ? LECTERN_SOURCE_DIR "/models/default" : "");
}

}  // namespace
}  // namespace lectern::services
