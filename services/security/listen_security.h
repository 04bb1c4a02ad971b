// How a server's socket is guarded: the flags that every server has, and the rule that what other
// machines can reach is encrypted and authenticated unless somebody says otherwise.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>
#include <string_view>

#include "services/telemetry/levels.h"

namespace lectern::services {

// Whether only this machine can reach "127.0.0.1:7421", "[::1]:0", "localhost:7421".
bool IsLoopback(std::string_view address);

// From --tls_certificate, --tls_key and --tls_client_ca. INVALID_ARGUMENT FLAG_INVALID, also when
// `address` can be reached from elsewhere without TLS or without `authenticated` callers, unless
// --allow_insecure. `how`: the flags that would authenticate them, for the message.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> CredentialsFromFlags(
    const std::string& address, bool authenticated, std::string_view how);

// Whether --tls_client_ca makes callers show certificates.
bool ClientCertificatesRequired();

// Adds lectern_certificate_expiry_time_seconds of a PEM file that a flag names; nothing for "".
void AddCertificateExpiry(Levels& levels, const std::string& flag, const std::string& path);
// The same of --tls_certificate and --tls_client_ca.
void AddCertificateExpiries(Levels& levels);

}  // namespace lectern::services
