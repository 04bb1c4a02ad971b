// What callers without a key can make a server read and hold.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "lectern/v1/answers.pb.h"
#include "lectern/v1/models.pb.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/secured_server.h"

namespace lectern::testing {
namespace {

// The most memory that the process ever held, in bytes.
int64_t PeakMemory(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) << 10;
  }
  return 0;
}

class UnreadRequestTest : public SecurityTest {
 protected:
  static constexpr int kCalls = 48;
  static constexpr int64_t kBytes = int64_t{15} << 20;

  // The memory that the server takes for kCalls calls without a key, all at once on one connection,
  // to each of `methods` in turn. `judge` sees how each of them ended.
  static int64_t HeldBy(const std::vector<std::string>& methods, const Message& request,
                        const std::function<void(const grpc::Status&)>& judge) {
    const grpc::Slice slice(request.SerializeAsString());
    const grpc::ByteBuffer message(&slice, 1);
    const int64_t before = PeakMemory(server_->pid());
    EXPECT_GT(before, 0);
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    struct Pending {
      grpc::ClientContext context;
      grpc::ByteBuffer answer;
      grpc::Status status;
      std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
    };
    std::vector<std::unique_ptr<Pending>> calls;
    for (size_t i = 0; i < kCalls; ++i) {
      auto& call = *calls.emplace_back(std::make_unique<Pending>());
      call.reader =
          stub.PrepareUnaryCall(&call.context, methods[i % methods.size()], message, &queue);
      call.reader->StartCall();
      call.reader->Finish(&call.answer, &call.status, &call);
    }
    for (int i = 0; i < kCalls; ++i) {
      void* tag = nullptr;
      bool ok = false;
      EXPECT_TRUE(queue.Next(&tag, &ok));
      judge(static_cast<Pending*>(tag)->status);
    }
    const int64_t held = PeakMemory(server_->pid()) - before;
    std::printf("%d requests of %lld bytes without a key: %lld bytes held\n", kCalls,
                static_cast<long long>(kBytes), static_cast<long long>(held));
    return held;
  }
};

TEST_F(UnreadRequestTest, WithoutAKeyNothingOfARequestIsRead) {
  v1::CountTokensRequest request;
  request.set_parent("tenants/a");
  request.set_text(std::string(kBytes, 'x'));
  // Unary and streaming answers.
  const int64_t held =
      HeldBy({"/lectern.v1.Answers/CountTokens", "/lectern.v1.Answers/Ask"}, request,
             [](const grpc::Status& status) { EXPECT_EQ(Reason(status), "KEY_MISSING"); });
  EXPECT_LT(held, kBytes * 4) << "not even a tenth of what was sent";
  // Who has a key may send that much.
  EXPECT_NE(Reason(Call("Answers/CountTokens", keys_["areader"], request)), "REQUEST_UNREADABLE");
  request.set_text(std::string(17 << 20, 'x'));
  EXPECT_EQ(Call("Answers/CountTokens", keys_["areader"], request).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(UnreadRequestTest, ARequestThatIsNoneIsRefusedWithAReason) {
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + keys_["areader"]);
  const grpc::Slice slice("\xff\xff\xff no message");
  const auto reader = stub.PrepareUnaryCall(&context, "/lectern.v1.Corpora/GetCorpus",
                                            grpc::ByteBuffer(&slice, 1), &queue);
  grpc::ByteBuffer answer;
  grpc::Status status;
  reader->StartCall();
  reader->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Reason(status), "REQUEST_UNREADABLE");
}

// Requests that are begun and do not end.
class Stalled {
 public:
  Stalled(const std::shared_ptr<grpc::Channel>& channel, const std::string& method)
      : stub_(channel), call_(stub_.PrepareCall(&context_, method, &queue_)) {
    call_->StartCall(nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue_.Next(&tag, &ok);
  }
  ~Stalled() {
    context_.TryCancel();
    grpc::Status status;
    call_->Finish(&status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue_.Next(&tag, &ok);
  }

 private:
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

TEST_F(UnreadRequestTest, OfHealthChecksFewAreReadAndAllAreAnswered) {
  using Health = grpc::health::v1::Health;
  using Response = grpc::health::v1::HealthCheckResponse;
  const auto check = [&](const std::string& service, Response* response) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    return Health::NewStub(channel_)->Check(&context, request, response);
  };
  Response response;
  ASSERT_TRUE(check("lectern.v1.Answers", &response).ok());
  EXPECT_EQ(response.status(), Response::SERVING);
  EXPECT_EQ(check("lectern.v1.Nothing", &response).error_code(), grpc::StatusCode::NOT_FOUND);

  grpc::health::v1::HealthCheckRequest large;
  large.set_service(std::string(kBytes, 'x'));
  const int64_t held = HeldBy({"/grpc.health.v1.Health/Check"}, large, [](const auto& status) {
    // Read, and then unknown; or answered unread.
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::NOT_FOUND)
        << status.error_message();
  });
  EXPECT_LT(held, kBytes * 10) << "four are read at a time, and a copy of each";

  // Who never ends a request keeps nobody else from hearing the state, nor from watching it.
  std::vector<std::unique_ptr<Stalled>> stalled;
  for (const char* method : {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}) {
    for (int i = 0; i < 8; ++i) stalled.push_back(std::make_unique<Stalled>(channel_, method));
  }
  response.Clear();
  ASSERT_TRUE(check("", &response).ok());
  EXPECT_EQ(response.status(), Response::SERVING);
  grpc::ClientContext context;
  const auto watch = Health::NewStub(channel_)->Watch(&context, {});
  response.Clear();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::SERVING);
  context.TryCancel();
  watch->Finish();
  stalled.clear();
  // Once they are gone, names are read again.
  while (check("lectern.v1.Nothing", &response).error_code() != grpc::StatusCode::NOT_FOUND) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

TEST_F(UnreadRequestTest, ThereIsNoReflectionForThoseWithoutAKey) {
  EXPECT_EQ(AnyCaller(channel_).Call("Nothing/AtAll", "", v1::GetModelRequest()).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));  // of a hang
  const auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  grpc::Status status;
  call->Finish(&status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace lectern::testing
