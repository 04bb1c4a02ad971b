// Lectern as it is deployed: `lectern serve`, or lectern-worker and lectern-gateway. Real processes
// on free ports of the loopback interface, and stubs to call them.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "lectern/v1/answers.grpc.pb.h"
#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/models.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/sessions.grpc.pb.h"
#include "services/rpc/errors.h"
#include "tests/e2e/process.h"
#include "tests/support/temporary_directory.h"

namespace lectern::testing {

enum class Topology { kServe, kSplit };

struct DeploymentOptions {
  Topology topology = Topology::kServe;
  std::string data_dir;
  std::string model_dir;
  std::vector<std::string> engine_flags;
  std::vector<std::string> gateway_flags;
};

class Deployment {
 public:
  // Starts it and waits until it is ready. Ends the test program if it does not get there.
  explicit Deployment(const DeploymentOptions& options);

  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  const std::string& ready_line() const { return ready_line_; }
  // The process that holds the engine, and the one that callers see; in kServe they are the same.
  Process& engine_process() { return *engine_; }
  Process& gateway_process() { return gateway_ ? *gateway_ : *engine_; }

  void KillAll();
  // SIGTERM to all, callers' side first. Whether all ended with 0.
  bool StopAll();

  v1::Corpora::Stub& corpora() { return *corpora_; }
  v1::Documents::Stub& documents() { return *documents_; }
  v1::Operations::Stub& operations() { return *operations_; }
  v1::Sessions::Stub& sessions() { return *sessions_; }
  v1::Answers::Stub& answers() { return *answers_; }
  v1::Models::Stub& models() { return *models_; }
  grpc::health::v1::Health::Stub& health() { return *health_; }

 private:
  void Connect();

  const TemporaryDirectory logs_;
  std::unique_ptr<Process> engine_;
  std::unique_ptr<Process> gateway_;
  std::string address_;
  std::string metrics_address_;
  std::string ready_line_;
  std::unique_ptr<v1::Corpora::Stub> corpora_;
  std::unique_ptr<v1::Documents::Stub> documents_;
  std::unique_ptr<v1::Operations::Stub> operations_;
  std::unique_ptr<v1::Sessions::Stub> sessions_;
  std::unique_ptr<v1::Answers::Stub> answers_;
  std::unique_ptr<v1::Models::Stub> models_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// The value of `key` in a ready line.
std::string FieldOf(const std::string& line, const std::string& key);

// ---- calls, as tests use them ----

inline constexpr char kTenant[] = "tenants/default";
std::string CorpusPath(const std::string& id);

grpc::Status CreateCorpus(Deployment& deployment, const std::string& id);
// `header` empty but for parent and id unless the test fills it.
grpc::Status Upload(Deployment& deployment, const v1::UploadDocumentRequest::Header& header,
                    const std::string& bytes, v1::Document* document = nullptr);
grpc::Status Upload(Deployment& deployment, const std::string& corpus, const std::string& id,
                    const std::string& bytes);
// Ingests and waits; the operation has ended unless the status says otherwise.
grpc::Status Ingest(Deployment& deployment, const std::string& corpus, v1::Operation* operation);
v1::AskRequest Question(const std::string& corpus, const std::string& text);

struct Asked {
  grpc::Status status;
  v1::AskResponse::Started started;
  std::string text;
  v1::AskResponse::Completed completed;
};
Asked Ask(Deployment& deployment, const v1::AskRequest& request);
// The same calls over any stubs; `context` as the caller set it up.
grpc::Status Ingest(v1::Corpora::Stub& corpora, v1::Operations::Stub& operations,
                    const std::string& corpus, grpc::ClientContext* context,
                    v1::Operation* operation);
Asked Ask(v1::Answers::Stub& answers, const v1::AskRequest& request, grpc::ClientContext* context);

std::string Reason(const grpc::Status& status);

// A page of the metrics server.
struct Page {
  int status = 0;
  std::string body;
};
Page Fetch(const std::string& address, const std::string& path);

// A small model with random weights, written once for the whole test program.
std::string SmallModel();

}  // namespace lectern::testing
