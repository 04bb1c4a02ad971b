// What calls about all groups (whole_cluster.h) do alike: page tokens over groups, sums.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/message.h>

#include <string>
#include <string_view>
#include <vector>

#include "engine/error/status_macros.h"
#include "services/gateway/whole_cluster.h"

namespace lectern::services {

// "groups/{group}".
std::string GroupName(std::string_view group);
bool IsUnreachable(const absl::Status& status);
std::vector<std::string> AliveGroups(WholeCluster& cluster);

// Adds every int64 field and every map of counts of `part` to `sum`, which is of the same type.
void AddUp(const google::protobuf::Message& part, google::protobuf::Message& sum);

// Where a page begins: in a group, at the group's own token; the first group without one.
struct PageStart {
  std::string group;
  std::string inner;
};
// INVALID_ARGUMENT BAD_PAGE_TOKEN.
absl::StatusOr<PageStart> ParseListToken(const std::string& token);
std::string ListToken(const std::string& group, const std::string& inner);
int PageSize(int asked);

// Lists over `groups`, which are in order: fills `response` with one page. `take` moves what a
// group's page holds into `response` and returns how many entries that were. Tokens name the group
// they continue in, so that a list stays right when groups come and go: what exists all the while
// in a group that is there all the while is listed once.
template <typename Request, typename Response, typename Take>
absl::Status ListGroups(WholeCluster& cluster, const std::vector<std::string>& groups,
                        Request request, Response& response,
                        WholeCluster::Method<Request, Response> method, const Take& take) {
  LECTERN_ASSIGN_OR_RETURN(PageStart start, ParseListToken(request.page_token()));
  int room = PageSize(request.page_size());
  for (const std::string& group : groups) {
    if (group < start.group) continue;
    if (group != start.group) start.inner.clear();
    if (room == 0) {
      response.set_next_page_token(ListToken(group, ""));
      return absl::OkStatus();
    }
    while (room > 0) {
      request.set_page_size(room);
      request.set_page_token(start.inner);
      Response page;
      const absl::Status status = cluster.Ask(group, method, request, page);
      if (IsUnreachable(status)) {
        response.add_unreachable(GroupName(group));
        break;
      }
      LECTERN_RETURN_IF_ERROR(status);
      room -= take(group, page);
      start.inner = page.next_page_token();
      if (start.inner.empty()) break;
      if (room == 0) {
        response.set_next_page_token(ListToken(group, start.inner));
        return absl::OkStatus();
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace lectern::services
