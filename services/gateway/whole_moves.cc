// The groups of a cluster and moves of corpora between them. All of it is in the directory's
// records: the groups act on them by themselves.
#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/gateway/whole_groups.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

void SetTime(int64_t micros, google::protobuf::Timestamp& time) {
  time.set_seconds(micros / 1'000'000);
  time.set_nanos(static_cast<int>(micros % 1'000'000) * 1'000);
}

v1::Move::State StateOf(const MoveRecord& move) {
  switch (move.state) {
    case MoveState::kRunning:
      return v1::Move::RUNNING;
    case MoveState::kDone:
      return v1::Move::DONE;
    case MoveState::kFailed:
      return v1::Move::FAILED;
    case MoveState::kCancelled:
      return v1::Move::CANCELLED;
  }
  return v1::Move::STATE_UNSPECIFIED;
}

v1::Move ToProto(const MoveRecord& move) {
  v1::Move out;
  out.set_corpus(CorpusResourceName(move.name));
  out.set_from(GroupName(move.from));
  out.set_to(GroupName(move.to));
  out.set_state(StateOf(move));
  if (!move.error.ok()) *out.mutable_error() = ToRpcStatus(move.error, "");
  out.set_bytes_total(move.bytes_total);
  out.set_bytes_done(move.bytes_done);
  out.set_records_done(move.records_done);
  out.set_attempts(static_cast<int32_t>(move.attempts));
  SetTime(move.create_time_us, *out.mutable_create_time());
  if (move.end_time_us != 0) SetTime(move.end_time_us, *out.mutable_end_time());
  return out;
}

v1::Group ToProto(const EtcdDirectory::GroupState& state) {
  v1::Group out;
  out.set_name(GroupName(state.group.name));
  out.set_address(state.group.address);
  out.set_alive(state.alive);
  out.set_replicas(state.replicas);
  out.set_replicated_corpora(state.replicated_corpora);
  out.set_draining(state.draining);
  out.set_corpora(state.corpora);
  out.set_free_bytes(state.group.free_bytes);
  out.set_model_fingerprint(state.group.fingerprint);
  out.set_version(state.group.version);
  return out;
}

absl::Status SetDraining(WholeCluster& cluster, const std::string& name, bool draining,
                         v1::Group& response) {
  LECTERN_ASSIGN_OR_RETURN(const std::string group, ParseGroupName(name, "name"));
  LECTERN_RETURN_IF_ERROR(cluster.records().SetDraining(group, draining));
  for (const EtcdDirectory::GroupState& state : cluster.records().GroupStates()) {
    if (state.group.name == group) response = ToProto(state);
  }
  response.set_name(GroupName(group));
  response.set_draining(draining);
  return absl::OkStatus();
}

}  // namespace

absl::Status ListGroupsInCluster(WholeCluster& cluster, const v1::ListGroupsRequest&,
                                 v1::ListGroupsResponse& response) {
  for (const EtcdDirectory::GroupState& state : cluster.records().GroupStates()) {
    *response.add_groups() = ToProto(state);
  }
  return absl::OkStatus();
}

absl::Status DrainGroupInCluster(WholeCluster& cluster, const v1::DrainGroupRequest& request,
                                 v1::Group& response) {
  return SetDraining(cluster, request.name(), true, response);
}

absl::Status ResumeGroupInCluster(WholeCluster& cluster, const v1::ResumeGroupRequest& request,
                                  v1::Group& response) {
  return SetDraining(cluster, request.name(), false, response);
}

absl::Status MoveCorpusInCluster(WholeCluster& cluster, const v1::MoveCorpusRequest& request,
                                 v1::Move& response) {
  LECTERN_ASSIGN_OR_RETURN(const engine::CorpusName name,
                           ParseAnyCorpusName(request.corpus(), "corpus"));
  std::string to;
  if (!request.to().empty()) {
    LECTERN_ASSIGN_OR_RETURN(to, ParseGroupName(request.to(), "to"));
  }
  LECTERN_ASSIGN_OR_RETURN(const MoveRecord move, cluster.records().BeginMove(name, to));
  response = ToProto(move);
  return absl::OkStatus();
}

absl::Status GetMoveInCluster(WholeCluster& cluster, const v1::GetMoveRequest& request,
                              v1::Move& response) {
  LECTERN_ASSIGN_OR_RETURN(const engine::CorpusName name,
                           ParseAnyCorpusName(request.corpus(), "corpus"));
  LECTERN_ASSIGN_OR_RETURN(const MoveRecord move, cluster.records().FindMove(name));
  response = ToProto(move);
  return absl::OkStatus();
}

absl::Status ListMovesInCluster(WholeCluster& cluster, const v1::ListMovesRequest& request,
                                v1::ListMovesResponse& response) {
  // By name; the token is the last one listed.
  int room = PageSize(request.page_size());
  for (const MoveRecord& move : cluster.records().Moves()) {
    if (TableKey(move.name) <= request.page_token()) continue;
    if (room-- == 0) {
      response.set_next_page_token(
          TableKey(ParseAnyCorpusName(response.moves().rbegin()->corpus(), "corpus")
                       .value_or(engine::CorpusName{})));
      break;
    }
    *response.add_moves() = ToProto(move);
  }
  return absl::OkStatus();
}

absl::Status CancelMoveInCluster(WholeCluster& cluster, const v1::CancelMoveRequest& request,
                                 v1::Move& response) {
  LECTERN_ASSIGN_OR_RETURN(const engine::CorpusName name,
                           ParseAnyCorpusName(request.corpus(), "corpus"));
  LECTERN_ASSIGN_OR_RETURN(const MoveRecord move, cluster.records().CancelMove(name));
  response = ToProto(move);
  return absl::OkStatus();
}

}  // namespace lectern::services
