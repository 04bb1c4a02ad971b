// TLS and mutual TLS between real processes.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lectern/v1/models.grpc.pb.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/process.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"

namespace lectern::testing {
namespace {

using ::testing::HasSubstr;

class TlsTest : public ::testing::Test {
 protected:
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::vector<std::string> Serve(const std::vector<std::string>& flags) {
    std::vector<std::string> command = {Program("lectern"),
                                        "serve",
                                        "--metrics_listen=127.0.0.1:0",
                                        "--data_dir=" + (folder_ / "data"),
                                        "--model_dir=" + SmallModel(),
                                        "--pool_bytes=64MiB",
                                        "--index_bytes=64MiB"};
    command.insert(command.end(), flags.begin(), flags.end());
    return command;
  }

  static grpc::Status GetModel(const std::string& address,
                               const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;  // a connection of its own every time
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub =
        v1::Models::NewStub(grpc::CreateCustomChannel(address, credentials, arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::Model model;
    return stub->GetModel(&context, {}, &model);
  }

  std::shared_ptr<grpc::ChannelCredentials> Client(const std::string& ca,
                                                   const std::string& name = "") {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = Read(ca);
    if (!name.empty()) {
      options.pem_cert_chain = Read(certificates_.Issue(name).certificate);
      options.pem_private_key = Read(certificates_.Issue(name).key);
    }
    return grpc::SslCredentials(options);
  }

  const TemporaryDirectory folder_;
  const Certificates certificates_{folder_.path()};
};

TEST_F(TlsTest, MutualTlsTakesNobodyElse) {
  const Certificates::Files server = certificates_.Issue("server");
  Process process(Serve({"--listen=127.0.0.1:0", "--tls_certificate=" + server.certificate,
                         "--tls_key=" + server.key, "--tls_client_ca=" + certificates_.ca()}),
                  folder_ / "log");
  const std::string line = process.ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << process.Log();
  const std::string address = FieldOf(line, "address");
  EXPECT_TRUE(GetModel(address, Client(certificates_.ca(), "client")).ok());
  EXPECT_FALSE(GetModel(address, Client(certificates_.ca())).ok()) << "no certificate";
  EXPECT_FALSE(GetModel(address, grpc::InsecureChannelCredentials()).ok()) << "no TLS";
  const TemporaryDirectory elsewhere;
  const Certificates others(elsewhere.path());
  EXPECT_FALSE(GetModel(address, Client(others.ca(), "client")).ok()) << "not our server";
  grpc::SslCredentialsOptions stranger;
  stranger.pem_root_certs = Read(certificates_.ca());
  stranger.pem_cert_chain = Read(others.Issue("client").certificate);
  stranger.pem_private_key = Read(others.Issue("client").key);
  EXPECT_FALSE(GetModel(address, grpc::SslCredentials(stranger)).ok()) << "another CA's client";

  const Finished model = RunCommand(
      {Program("lectern"), "model", "--address=" + address, "--tls_ca=" + certificates_.ca(),
       "--tls_client_certificate=" + certificates_.Issue("client").certificate,
       "--tls_client_key=" + certificates_.Issue("client").key});
  EXPECT_EQ(model.code, 0) << model.errors;
  const Finished plain = RunCommand({Program("lectern"), "model", "--address=" + address});
  EXPECT_EQ(plain.code, 3) << plain.errors;

  const std::string page = Fetch(FieldOf(line, "metrics"), "/metrics").body;
  const double now = static_cast<double>(std::time(nullptr));
  for (const char* flag : {"tls_certificate", "tls_client_ca"}) {
    const std::string series =
        "\nlectern_certificate_expiry_time_seconds{flag=\"" + std::string(flag) + "\"} ";
    const size_t at = page.find(series);
    ASSERT_NE(at, std::string::npos) << flag;
    EXPECT_GT(std::stod(page.substr(at + series.size())), now) << flag;
  }
}

TEST_F(TlsTest, CertificatesAreRenewedWithoutARestart) {
  // As Kubernetes does it: a symbolic link to a folder, replaced as a whole.
  const TemporaryDirectory old_home;
  const TemporaryDirectory new_home;
  const Certificates before(old_home.path());
  const Certificates after(new_home.path());
  before.Issue("server");
  after.Issue("server");
  const std::string link = folder_ / "tls";
  std::filesystem::create_directory_symlink(old_home.path(), link);
  Process process(Serve({"--listen=127.0.0.1:0", "--tls_certificate=" + link + "/server.pem",
                         "--tls_key=" + link + "/server.key"}),
                  folder_ / "log");
  const std::string line = process.ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << process.Log();
  const std::string address = FieldOf(line, "address");
  EXPECT_TRUE(GetModel(address, Client(before.ca())).ok());
  EXPECT_FALSE(GetModel(address, Client(after.ca())).ok());
  std::filesystem::create_directory_symlink(new_home.path(), link + ".new");
  std::filesystem::rename(link + ".new", link);
  while (!GetModel(address, Client(after.ca())).ok()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_FALSE(GetModel(address, Client(before.ca())).ok());
}

TEST_F(TlsTest, GatewayAndWorkerAuthenticateEachOther) {
  const Certificates::Files worker = certificates_.Issue("worker");
  const Certificates::Files gateway = certificates_.Issue("gateway");
  Process engine(
      {Program("lectern-worker"), "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
       "--data_dir=" + (folder_ / "data"), "--model_dir=" + SmallModel(), "--pool_bytes=64MiB",
       "--index_bytes=64MiB", "--tls_certificate=" + worker.certificate, "--tls_key=" + worker.key,
       "--tls_client_ca=" + certificates_.ca()},
      folder_ / "worker.log");
  const std::string worker_line = engine.ReadLine();
  ASSERT_THAT(worker_line, HasSubstr(" ready ")) << engine.Log();
  Process front(
      {Program("lectern-gateway"), "--worker=" + FieldOf(worker_line, "address"),
       "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", "--worker_ca=" + certificates_.ca(),
       "--worker_certificate=" + gateway.certificate, "--worker_key=" + gateway.key},
      folder_ / "gateway.log");
  const std::string line = front.ReadLine();
  ASSERT_THAT(line, HasSubstr(" ready ")) << front.Log();
  while (!GetModel(FieldOf(line, "address"), grpc::InsecureChannelCredentials()).ok()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

TEST_F(TlsTest, HalfConfigurationsAndOpenDoorsAreRefusedAtTheStart) {
  const Certificates::Files server = certificates_.Issue("server");
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--listen=127.0.0.1:0", "--tls_certificate=" + server.certificate}, "--tls_key"},
      {{"--listen=127.0.0.1:0", "--tls_client_ca=" + certificates_.ca()}, "--tls_certificate"},
      {{"--listen=0.0.0.0:0"}, "--allow_insecure"},
      {{"--listen=0.0.0.0:0", "--tls_certificate=" + server.certificate, "--tls_key=" + server.key},
       "--keys_file"},
      {{"--listen=127.0.0.1:0", "--keys_file=" + (folder_ / "nowhere.json")}, "KEYS_FILE_MISSING"},
      {{"--listen=127.0.0.1:0", "--audit_log=" + (folder_ / "no/folder/log")}, "AUDIT_LOG_FAILED"}};
  for (const auto& [flags, message] : cases) {
    const Finished finished = RunCommand(Serve(flags));
    EXPECT_EQ(finished.code, 1) << message;
    EXPECT_THAT(finished.errors, HasSubstr(message));
  }
  const Finished worker = RunCommand({Program("lectern-worker"), "--listen=0.0.0.0:0"});
  EXPECT_EQ(worker.code, 1);
  EXPECT_THAT(worker.errors, HasSubstr("--tls_client_ca"));
  Process open(Serve({"--listen=0.0.0.0:0", "--allow_insecure"}), folder_ / "log");
  EXPECT_THAT(open.ReadLine(), HasSubstr(" ready ")) << "said so";
}

}  // namespace
}  // namespace lectern::testing
