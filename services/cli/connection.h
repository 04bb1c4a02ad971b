// How a subcommand reaches the server: TLS, the API key and the tenant, from flags and environment.
#pragma once

#include <absl/flags/declare.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(std::string, tenant);

namespace lectern::services {

struct Connection {
  std::string address;  // --address, $LECTERN_ADDRESS or 127.0.0.1:7421
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::string key;  // of --api_key_file or $LECTERN_API_KEY; "" if there is none
};

// The flags of every subcommand that talks to a server, `address` among them.
const std::vector<std::string_view>& ConnectionFlags();

// INVALID_ARGUMENT FLAG_INVALID: files as in services/security/tls.h, an empty key file, or a key
// that would cross a network unencrypted.
absl::StatusOr<Connection> ConnectionFromFlags();

// The connection that Client and Call use, made once; REQUIRES that OpenConnection returned OK.
absl::Status OpenConnection();
const Connection& TheConnection();

// --tenant, $LECTERN_TENANT or "default".
std::string Tenant();

}  // namespace lectern::services
