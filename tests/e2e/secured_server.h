// A server with keys for two tenants that have the same ids in them, shared by the tests of a
// suite; and calls of any method to it.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/operations.pb.h"
#include "tests/e2e/process.h"
#include "tests/support/temporary_directory.h"

namespace lectern::testing {

using google::protobuf::Message;

// Any call of any kind, by name: one message there, and the first that comes back, if it is wanted.
class AnyCaller {
 public:
  explicit AnyCaller(const std::shared_ptr<grpc::Channel>& channel) : stub_(channel) {}

  grpc::Status Call(const std::string& method, const std::string& key, const Message& request,
                    grpc::ByteBuffer* first = nullptr);

 private:
  grpc::GenericStub stub_;
};

class SecurityTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  static std::string KeysFile() { return *folder_ / "keys.json"; }
  static std::string MakeKey(const std::vector<std::string>& flags);
  static grpc::Status Call(const std::string& method, const std::string& key,
                           const Message& request) {
    return AnyCaller(channel_).Call(method, key, request);
  }
  // Returns when the server has read the keys file since the key was written.
  static void AwaitKey(const std::string& key);

  // The answer of a unary call that must succeed.
  template <typename Response>
  static Response Get(const std::string& method, const std::string& key, const Message& request) {
    grpc::ByteBuffer bytes;
    const grpc::Status status = AnyCaller(channel_).Call(method, key, request, &bytes);
    EXPECT_TRUE(status.ok()) << method << ": " << status.error_message();
    Response response;
    grpc::Slice slice;
    EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
    EXPECT_TRUE(response.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
    return response;
  }

  static grpc::Status Upload(const std::string& key, const std::string& corpus,
                             const std::string& text);
  static v1::Operation MakeIngested(const std::string& tenant, const std::string& id,
                                    const std::string& text);

  static TemporaryDirectory* folder_;
  static std::unique_ptr<Process> server_;
  static std::shared_ptr<grpc::Channel> channel_;
  static std::string address_;
  static std::string metrics_;
  static std::string operator_;
  static std::map<std::string, std::string> keys_;  // "areader", ...
};

}  // namespace lectern::testing
