// Calls that are about all groups of a cluster: lists go from group to group, figures are added up,
// tenants are made the same everywhere, a deletion waits for the group that it concerns. Each runs
// on one of the router's threads and may block.
//
// A group that cannot be reached does not make a list or a sum fail: the answer names it
// (`unreachable`, "groups/{group}"). Where something must be done on all groups, the ones that are
// away do it before they answer again (services/cluster/member.h).
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "lectern/v1/backups.pb.h"
#include "lectern/v1/cluster.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "services/gateway/gateway.h"

namespace lectern::services {

class WholeCluster {
 public:
  WholeCluster(Router& router, RelayedCall& call) : router_(router), call_(call) {}

  Directory& directory() { return router_.directory(); }
  EtcdDirectory& records() { return *router_.records(); }
  const std::string& tenant() const { return call_.tenant(); }
  // Shortly before the call ends for its caller.
  std::chrono::steady_clock::time_point Deadline();

  template <typename Request, typename Response>
  using Method = grpc::Status (WorkerStub::*)(grpc::ClientContext*, const Request&, Response*);
  // Asks one group; waits for it as long as the router has patience, and asks again where that may
  // help.
  template <typename Request, typename Response>
  absl::Status Ask(const std::string& group, Method<Request, Response> method,
                   const Request& request, Response& response) {
    return AskAs(group, [&](WorkerStub& stub, grpc::ClientContext& context) {
      response.Clear();
      return (stub.*method)(&context, request, &response);
    });
  }

 private:
  absl::Status AskAs(const std::string& group,
                     const std::function<grpc::Status(WorkerStub&, grpc::ClientContext&)>& ask);

  Router& router_;
  RelayedCall& call_;
};

// An id that nobody has: 16 random characters.
std::string MakeCorpusId();
// RESOURCE_EXHAUSTED QUEUE_FULL.
absl::Status TooManyWait();
// FAILED_PRECONDITION CLUSTER_MISSING.
absl::Status NoCluster();

absl::Status DeleteCorpusInCluster(WholeCluster&, const v1::DeleteCorpusRequest&,
                                   google::protobuf::Empty&);
absl::Status ListCorporaInCluster(WholeCluster&, const v1::ListCorporaRequest&,
                                  v1::ListCorporaResponse&);
absl::Status GetStatsInCluster(WholeCluster&, const v1::GetStatsRequest&, v1::Stats&);
absl::Status CreateTenantInCluster(WholeCluster&, const v1::CreateTenantRequest&, v1::Tenant&);
absl::Status GetTenantInCluster(WholeCluster&, const v1::GetTenantRequest&, v1::Tenant&);
absl::Status ListTenantsInCluster(WholeCluster&, const v1::ListTenantsRequest&,
                                  v1::ListTenantsResponse&);
absl::Status UpdateTenantInCluster(WholeCluster&, const v1::UpdateTenantRequest&, v1::Tenant&);
absl::Status DeleteTenantInCluster(WholeCluster&, const v1::DeleteTenantRequest&,
                                   google::protobuf::Empty&);
absl::Status CreateBackupInCluster(WholeCluster&, const v1::CreateBackupRequest&, v1::Backup&);
absl::Status GetBackupInCluster(WholeCluster&, const v1::GetBackupRequest&, v1::Backup&);
absl::Status ListBackupsInCluster(WholeCluster&, const v1::ListBackupsRequest&,
                                  v1::ListBackupsResponse&);
absl::Status CancelBackupInCluster(WholeCluster&, const v1::CancelBackupRequest&, v1::Backup&);
absl::Status ListGroupsInCluster(WholeCluster&, const v1::ListGroupsRequest&,
                                 v1::ListGroupsResponse&);
absl::Status DrainGroupInCluster(WholeCluster&, const v1::DrainGroupRequest&, v1::Group&);
absl::Status ResumeGroupInCluster(WholeCluster&, const v1::ResumeGroupRequest&, v1::Group&);
absl::Status MoveCorpusInCluster(WholeCluster&, const v1::MoveCorpusRequest&, v1::Move&);
absl::Status GetMoveInCluster(WholeCluster&, const v1::GetMoveRequest&, v1::Move&);
absl::Status ListMovesInCluster(WholeCluster&, const v1::ListMovesRequest&, v1::ListMovesResponse&);
absl::Status CancelMoveInCluster(WholeCluster&, const v1::CancelMoveRequest&, v1::Move&);

}  // namespace lectern::services
