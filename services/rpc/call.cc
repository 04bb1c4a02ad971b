#include "services/rpc/call.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <random>

#include "engine/error/error.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

std::optional<std::string> Header(const grpc::ServerContextBase& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  if (found == context.client_metadata().end()) return std::nullopt;
  return std::string(found->second.data(), found->second.size());
}

bool IsRequestId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdLength &&
         std::all_of(id.begin(), id.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

}  // namespace

std::string MakeRequestId() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

absl::StatusOr<std::string> RequestIdOf(const grpc::ServerContextBase& context) {
  const std::optional<std::string> id = Header(context, kRequestIdHeader);
  if (!id) return MakeRequestId();
  if (IsRequestId(*id)) return *id;
  return engine::InvalidArgument(
      reason::kRequestIdInvalid,
      fmt::format("the header {} must hold 1 to {} printable ASCII characters, not {} bytes; leave "
                  "it out to have one made",
                  kRequestIdHeader, kMaxRequestIdLength, id->size()),
      {{"field", kRequestIdHeader}});
}

std::string AuthorizationOf(const grpc::ServerContextBase& context) {
  return Header(context, kAuthorizationHeader).value_or("");
}

Caller InternalCaller(const grpc::ServerContextBase& context) {
  std::optional<std::string> id = Header(context, kInternalRequestIdHeader);
  Caller caller = {id ? *std::move(id) : MakeRequestId(),
                   Header(context, kInternalTenantHeader).value_or(std::string(kDefaultTenant)),
                   ""};
  if (const auto placement = Header(context, kInternalPlacementHeader)) {
    const size_t slash = placement->find('/');
    const char* end = placement->data() + std::min(slash, placement->size());
    const auto parsed = std::from_chars(placement->data(), end, caller.epoch);
    if (slash != std::string::npos && parsed.ec == std::errc() && parsed.ptr == end) {
      caller.corpus = placement->substr(slash + 1);
    }
  }
  return caller;
}

void SetInternalCaller(const Caller& caller, grpc::ClientContext& context) {
  context.AddMetadata(kInternalRequestIdHeader, caller.request_id);
  context.AddMetadata(kInternalTenantHeader, caller.tenant);
  if (!caller.corpus.empty()) {
    context.AddMetadata(kInternalPlacementHeader,
                        fmt::format("{}/{}", caller.epoch, caller.corpus));
  }
}

int64_t DeadlineMicros(const grpc::ServerContextBase& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return 0;
  return std::chrono::duration_cast<std::chrono::microseconds>(deadline.time_since_epoch()).count();
}

}  // namespace lectern::services
