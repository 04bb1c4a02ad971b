// A cluster as it is deployed: a real etcd, workers with a data directory each, two gateways, and
// links between them that can be cut.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lectern/v1/answers.grpc.pb.h"
#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/models.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/tenants.grpc.pb.h"
#include "tests/e2e/deployment.h"
#include "tests/e2e/etcd.h"
#include "tests/e2e/link.h"
#include "tests/e2e/loopback.h"
#include "tests/e2e/process.h"
#include "tests/support/temporary_directory.h"

namespace lectern::testing {

// Short, so that a test can wait for its end; long enough for a busy machine.
inline constexpr int kLeaseSeconds = 5;

// The name of a worker's group.
std::string GroupOf(int worker);

// A caller of one gateway, or of several as OPERATIONS.md says.
struct Client {
  // `of_several`: takes them in turn, looks at their health, and tries again where nothing was
  // begun.
  explicit Client(const std::string& target, bool of_several = false);

  grpc::Status Create(const std::string& id);
  grpc::Status Get(const std::string& id, v1::Corpus* corpus = nullptr,
                   std::chrono::milliseconds limit = std::chrono::minutes(2));
  grpc::Status Delete(const std::string& id,
                      std::chrono::milliseconds limit = std::chrono::minutes(2));
  grpc::Status Upload(const std::string& corpus, const std::string& id, const std::string& bytes);
  // Ingests and waits for the end.
  grpc::Status Ingest(const std::string& corpus);
  Asked Ask(const v1::AskRequest& request);

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Corpora::Stub> corpora;
  std::unique_ptr<v1::Documents::Stub> documents;
  std::unique_ptr<v1::Operations::Stub> operations;
  std::unique_ptr<v1::Answers::Stub> answers;
  std::unique_ptr<v1::Models::Stub> models;
  std::unique_ptr<v1::Tenants::Stub> tenants;
};

// A process on ports that stay its own when it is started again.
class Server {
 public:
  Server(std::string name, std::vector<std::string> command, const std::string& log,
         const std::string& address = FreeAddress());
  void Start();
  Process& process() { return *process_; }
  const std::string& name() const { return name_; }
  const std::string& address() const { return address_; }
  bool Healthy() const;
  void AwaitHealth(bool healthy) const;
  // The value of a series, or -1.
  double Metric(const std::string& series) const;
  void AwaitMetric(const std::string& series, double value) const;

 private:
  const std::string name_;
  std::vector<std::string> command_;
  const std::string log_;
  std::string address_;
  std::string metrics_;
  std::unique_ptr<Process> process_;
};

struct ClusterOptions {
  int workers = 2;
  std::vector<std::string> worker_flags;
};

class Cluster {
 public:
  // Starts all of it and waits until it is ready.
  explicit Cluster(const ClusterOptions& options = {});

  Etcd& etcd() { return etcd_; }
  Server& worker(int i) { return *workers_[i]; }
  Server& gateway(int i) { return *gateways_[i]; }
  Client& client(int gateway) { return *clients_[gateway]; }
  Client& balanced() { return *balanced_; }  // over both gateways
  const TemporaryDirectory& directory() const { return directory_; }
  // Between a process and etcd, and between the gateways and a worker.
  Link& worker_to_etcd(int i) { return *worker_to_etcd_[i]; }
  Link& gateway_to_etcd(int i) { return *gateway_to_etcd_[i]; }
  Link& to_worker(int i) { return *to_worker_[i]; }

  // Waits until everything works again.
  void AwaitWhole();
  // What the worker's own store lists, asked past the gateways.
  std::set<std::string> HeldBy(int worker);
  std::string DataDirectory(int worker) const;

  static constexpr int kGateways = 2;

 private:
  TemporaryDirectory directory_;
  Etcd etcd_;
  std::vector<std::unique_ptr<Link>> worker_to_etcd_;
  std::vector<std::unique_ptr<Link>> gateway_to_etcd_;
  std::vector<std::unique_ptr<Link>> to_worker_;
  std::vector<std::unique_ptr<Server>> workers_;
  std::vector<std::unique_ptr<Server>> gateways_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::unique_ptr<Client> balanced_;
};

}  // namespace lectern::testing
