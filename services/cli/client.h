// A connection to the server, and what all subcommands do with it.
#pragma once

#include <absl/flags/declare.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lectern/v1/answers.grpc.pb.h"
#include "lectern/v1/backups.grpc.pb.h"
#include "lectern/v1/cluster.grpc.pb.h"
#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/models.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/sessions.grpc.pb.h"
#include "lectern/v1/tenants.grpc.pb.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/rpc/names.h"

ABSL_DECLARE_FLAG(double, timeout);
ABSL_DECLARE_FLAG(bool, json);

namespace lectern::services {

// One call: its deadline (from --timeout, if that is not 0), a request id of its own, and the API
// key.
class Call {
 public:
  Call();
  grpc::ClientContext& context() { return context_; }
  const std::string& request_id() const { return request_id_; }

 private:
  grpc::ClientContext context_;
  std::string request_id_;
};

class Client {
 public:
  // Over TheConnection(). Connects with the first call.
  explicit Client(std::string_view command);

  v1::Corpora::Stub& corpora() { return *corpora_; }
  v1::Documents::Stub& documents() { return *documents_; }
  v1::Operations::Stub& operations() { return *operations_; }
  v1::Sessions::Stub& sessions() { return *sessions_; }
  v1::Answers::Stub& answers() { return *answers_; }
  v1::Models::Stub& models() { return *models_; }
  v1::Tenants::Stub& tenants() { return *tenants_; }
  v1::Backups::Stub& backups() { return *backups_; }
  v1::Cluster::Stub& cluster() { return *cluster_; }

  // Explains on stderr what the server said, with reason, request id and what to do; returns the
  // exit code that fits.
  int Explain(const grpc::Status& status, const Call& call) const;
  // The same for an operation that ended with an error.
  int Explain(const google::rpc::Status& status) const;

 private:
  std::string command_;
  std::string address_;
  std::unique_ptr<v1::Corpora::Stub> corpora_;
  std::unique_ptr<v1::Documents::Stub> documents_;
  std::unique_ptr<v1::Operations::Stub> operations_;
  std::unique_ptr<v1::Sessions::Stub> sessions_;
  std::unique_ptr<v1::Answers::Stub> answers_;
  std::unique_ptr<v1::Models::Stub> models_;
  std::unique_ptr<v1::Tenants::Stub> tenants_;
  std::unique_ptr<v1::Backups::Stub> backups_;
  std::unique_ptr<v1::Cluster::Stub> cluster_;
};

// Complains on stderr; returns kExitUsage.
int UsageMistake(const Command& command, std::string_view message);

// "handbook" (of the tenant that the flags name) or "tenants/default/corpora/handbook" as a
// resource name.
std::string CorpusArgument(const std::string& argument);
// "handbook/intro" or a whole name; `corpus` ("" if there is none) completes a bare id.
std::string ResourceArgument(const std::string& argument, Collection collection,
                             const std::string& corpus = "");
// The last segment of a name.
std::string IdOf(const std::string& name);

}  // namespace lectern::services
