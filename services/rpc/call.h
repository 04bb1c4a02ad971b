// What identifies a call: the request id and the tenant, and the headers they travel in.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace lectern::services {

// From callers to gateways, and back in the initial metadata.
inline constexpr char kRequestIdHeader[] = "x-request-id";
// The API key, behind "Bearer ".
inline constexpr char kAuthorizationHeader[] = "authorization";
// From gateways to workers, which believe them.
inline constexpr char kInternalRequestIdHeader[] = "x-lectern-request-id";
inline constexpr char kInternalTenantHeader[] = "x-lectern-tenant";
// In a cluster, of requests about a corpus: "<epoch>/<corpus>", the placement that the gateway acts
// on (services/cluster/directory.h).
inline constexpr char kInternalPlacementHeader[] = "x-lectern-placement";

inline constexpr size_t kMaxRequestIdLength = 128;

// Of messages on the wire. Documents come in pieces of at most kMaxUploadBytes; the rest leaves
// room for long lists.
inline constexpr int kMaxReceiveBytes = 16 << 20;
inline constexpr int kMaxRelayBytes = 64 << 20;
inline constexpr size_t kMaxUploadBytes = 3 << 20;

struct Caller {
  std::string request_id;
  std::string tenant;  // "" for who administers tenants, and is of none
  std::string key_id;  // at gateways with keys; workers do not learn it
  std::string corpus;  // of the placement that a gateway sent; "" if it sent none
  int64_t epoch = 0;   // likewise
};

// 32 hexadecimal digits from the system's random numbers.
std::string MakeRequestId();

// The caller's request id, or a new one if it sent none. INVALID_ARGUMENT REQUEST_ID_INVALID.
absl::StatusOr<std::string> RequestIdOf(const grpc::ServerContextBase& context);

// The value of the call's header `authorization`, or "".
std::string AuthorizationOf(const grpc::ServerContextBase& context);

// What a gateway said about the caller. A call without the headers (someone debugging a worker by
// hand) is of the default tenant.
Caller InternalCaller(const grpc::ServerContextBase& context);
// Sends the placement as well, if the caller has one.
void SetInternalCaller(const Caller& caller, grpc::ClientContext& context);

// The call's deadline in microseconds since the epoch; 0 if it has none.
int64_t DeadlineMicros(const grpc::ServerContextBase& context);

}  // namespace lectern::services
