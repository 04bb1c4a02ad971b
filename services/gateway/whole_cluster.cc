#include "services/gateway/whole_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/gateway/attempts.h"
#include "services/gateway/whole_groups.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

// Between the group and its own token in a page token of ours; not a character of group names.
constexpr char kInToken = '~';
constexpr int kDefaultPage = 50;
constexpr int kMostOnPage = 1000;
// So that what is said at the deadline still reaches the caller.
constexpr std::chrono::milliseconds kMargin{100};
// A deletion whose caller sets no deadline waits that long for the group to confirm it.
constexpr std::chrono::seconds kLongestConfirmation{60};

absl::Status FromWorker(const grpc::Status& status, const std::string& group) {
  if (status.ok()) return absl::OkStatus();
  const RemoteError error = ToRemoteError(status);
  if (!error.reason.empty())
    return engine::Error(error.code, error.reason, error.message, error.metadata);
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kGroupUnreachable,
                         fmt::format("the group {} cannot be reached ({}); try again", group,
                                     status.error_message()),
                         {{"group", group}});
  }
  return engine::Error(error.code, CodeName(status.error_code()), status.error_message());
}

}  // namespace

std::string GroupName(std::string_view group) { return fmt::format("groups/{}", group); }

bool IsUnreachable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable;
}

std::vector<std::string> AliveGroups(WholeCluster& cluster) {
  std::vector<std::string> names;
  for (const Group& group : cluster.directory().Groups()) names.push_back(group.name);
  return names;
}

std::string MakeCorpusId() {
  constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";
  std::random_device device;
  std::string id;
  for (int i = 0; i < 16; ++i) id += kAlphabet[device() % kAlphabet.size()];
  return id;
}

absl::Status TooManyWait() {
  return engine::Error(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                       "too many calls wait for the whole cluster; try again");
}

absl::Status NoCluster() {
  return engine::Error(absl::StatusCode::kFailedPrecondition, reason::kClusterMissing,
                       "this server is of no cluster: there are no groups (--etcd_endpoints)");
}

std::chrono::steady_clock::time_point WholeCluster::Deadline() {
  const auto deadline = call_.ErrandFor({}).deadline;
  return deadline == std::chrono::steady_clock::time_point::max() ? deadline : deadline - kMargin;
}

absl::Status WholeCluster::AskAs(
    const std::string& group,
    const std::function<grpc::Status(WorkerStub&, grpc::ClientContext&)>& ask) {
  for (int attempt = 0;; ++attempt) {
    LECTERN_ASSIGN_OR_RETURN(
        const std::shared_ptr<Backend> backend,
        router_.AwaitReady(group, Deadline(), [this] { return call_.cancelled(); }));
    const grpc::Status status = ask(*backend->stub, call_.NewAttempt({.backend = backend}));
    const Again again = attempt < kRetryLimit && !call_.cancelled()
                            ? router_.Judge(status, IsIdempotent(call_.method()))
                            : Again::kNo;
    if (again == Again::kNo) return FromWorker(status, group);
    router_.CountRetry();
    std::this_thread::sleep_for(Router::PauseBefore(attempt));
  }
}

absl::StatusOr<PageStart> ParseListToken(const std::string& token) {
  if (token.empty()) return PageStart{};
  const size_t split = token.find(kInToken);
  if (split == std::string::npos) {
    return engine::InvalidArgument(
        "BAD_PAGE_TOKEN",
        "page_token is not one that this list returned: pass next_page_token of the page before",
        {{"field", "page_token"}});
  }
  return PageStart{token.substr(0, split), token.substr(split + 1)};
}

std::string ListToken(const std::string& group, const std::string& inner) {
  return fmt::format("{}{}{}", group, kInToken, inner);
}

int PageSize(int asked) { return std::min(asked <= 0 ? kDefaultPage : asked, kMostOnPage); }

absl::Status DeleteCorpusInCluster(WholeCluster& cluster, const v1::DeleteCorpusRequest& request,
                                   google::protobuf::Empty&) {
  LECTERN_ASSIGN_OR_RETURN(const engine::CorpusName name,
                           ParseCorpusName(request.name(), cluster.tenant(), "name"));
  return cluster.directory().Remove(
      name, std::min(cluster.Deadline(), std::chrono::steady_clock::now() + kLongestConfirmation));
}

absl::Status ListCorporaInCluster(WholeCluster& cluster, const v1::ListCorporaRequest& request,
                                  v1::ListCorporaResponse& response) {
  std::vector<std::string> groups = cluster.directory().GroupsOf(cluster.tenant());
  const std::vector<std::string> alive = AliveGroups(cluster);
  groups.insert(groups.end(), alive.begin(), alive.end());
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  // A corpus that has just left the group, or was deleted while the group was away, is not listed.
  const auto elsewhere = [&](const v1::Corpus& corpus, const std::string& group) {
    const auto name = ParseCorpusName(corpus.name(), cluster.tenant(), "name");
    if (!name.ok()) return true;
    const std::optional<Placement> known = cluster.directory().Known(*name);
    return known && (known->deleted || known->group != group);
  };
  return ListGroups(cluster, groups, request, response, &WorkerStub::ListCorpora,
                    [&](const std::string& group, v1::ListCorporaResponse& page) {
                      int taken = 0;
                      for (v1::Corpus& corpus : *page.mutable_corpora()) {
                        if (elsewhere(corpus, group)) continue;
                        *response.add_corpora() = std::move(corpus);
                        ++taken;
                      }
                      return taken;
                    });
}

absl::Status GetStatsInCluster(WholeCluster& cluster, const v1::GetStatsRequest& request,
                               v1::Stats& response) {
  for (const std::string& group : AliveGroups(cluster)) {
    v1::Stats stats;
    const absl::Status status = cluster.Ask(group, &WorkerStub::GetStats, request, stats);
    if (IsUnreachable(status)) {
      response.add_unreachable(GroupName(group));
      continue;
    }
    LECTERN_RETURN_IF_ERROR(status);
    AddUp(stats, response);
  }
  return absl::OkStatus();
}

void AddUp(const google::protobuf::Message& part, google::protobuf::Message& sum) {
  using google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection& reflection = *part.GetReflection();
  const google::protobuf::Descriptor& type = *part.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    if (field->is_map()) {
      // Maps of counts by kind: entries of the same kind become one.
      for (int j = 0; j < reflection.FieldSize(part, field); ++j) {
        const auto& entry = reflection.GetRepeatedMessage(part, field, j);
        const auto* key = entry.GetDescriptor()->map_key();
        const auto* value = entry.GetDescriptor()->map_value();
        const std::string kind = entry.GetReflection()->GetString(entry, key);
        google::protobuf::Message* into = nullptr;
        for (int k = 0; k < reflection.FieldSize(sum, field); ++k) {
          auto* other = reflection.MutableRepeatedMessage(&sum, field, k);
          if (other->GetReflection()->GetString(*other, key) == kind) into = other;
        }
        if (into == nullptr) {
          into = reflection.AddMessage(&sum, field);
          into->GetReflection()->SetString(into, key, kind);
        }
        into->GetReflection()->SetInt64(into, value,
                                        into->GetReflection()->GetInt64(*into, value) +
                                            entry.GetReflection()->GetInt64(entry, value));
      }
    } else if (!field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
      reflection.SetInt64(&sum, field,
                          reflection.GetInt64(sum, field) + reflection.GetInt64(part, field));
    } else if (!field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      reflection.SetDouble(&sum, field,
                           reflection.GetDouble(sum, field) + reflection.GetDouble(part, field));
    }
  }
}

}  // namespace lectern::services
