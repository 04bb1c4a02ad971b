// Walking a list method's pages.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <string>
#include <vector>

#include "services/cli/client.h"
#include "services/cli/output.h"

namespace lectern::services {

inline constexpr int kListPageSize = 500;

// Calls `list(context, request, response)` until the last page. `items_of(response)` is the
// repeated field. Returns kExitOk and all items in `items`, or the exit code of the error it has
// explained.
template <typename Response, typename Request, typename Item, typename List, typename ItemsOf>
int ListAll(const Client& client, Request request, List list, ItemsOf items_of,
            std::vector<Item>& items) {
  request.set_page_size(kListPageSize);
  while (true) {
    Response response;
    Call call;
    const grpc::Status status = list(&call.context(), request, &response);
    if (!status.ok()) return client.Explain(status, call);
    for (Item& item : *items_of(response)) items.push_back(std::move(item));
    if constexpr (requires { response.unreachable(); }) {
      for (const std::string& group : response.unreachable()) {
        std::fprintf(stderr, "incomplete: %s could not be reached; what it holds is missing\n",
                     group.c_str());
      }
    }
    if (response.next_page_token().empty()) return kExitOk;
    request.set_page_token(response.next_page_token());
  }
}

// The items as one JSON array.
template <typename Item>
void PrintJsonArray(const std::vector<Item>& items) {
  Json array = Json::array();
  for (const Item& item : items) array.push_back(ToJson(item));
  PrintJson(array);
}

// A message as JSON or as lines, as --json says.
void PrintMessage(const google::protobuf::Message& message);

}  // namespace lectern::services
