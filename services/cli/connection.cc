#include "services/cli/connection.h"

#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/security/listen_security.h"
#include "services/security/tls.h"

ABSL_FLAG(std::string, address, "", "of the server; default: $LECTERN_ADDRESS or 127.0.0.1:7421");
ABSL_FLAG(std::string, tenant, "",
          "whose corpora bare names mean; default: $LECTERN_TENANT or \"default\"");
ABSL_FLAG(std::string, api_key_file, "",
          "file that holds the API key; default: the key in $LECTERN_API_KEY, if any");
ABSL_FLAG(bool, tls, false,
          "speak TLS with a server whose certificate this system's CAs vouch for");
ABSL_FLAG(std::string, tls_ca, "",
          "PEM file of CAs: speak TLS with a server whose certificate is from one of them");
ABSL_FLAG(std::string, tls_client_certificate, "",
          "PEM file of the certificate to show to the server (mutual TLS)");
ABSL_FLAG(std::string, tls_client_key, "", "PEM file of that certificate's key");

namespace lectern::services {
namespace {

constexpr char kDefaultAddress[] = "127.0.0.1:7421";

std::string FlagOrEnvironment(const std::string& flag, const char* name, const char* fallback) {
  if (!flag.empty()) return flag;
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

absl::Status Invalid(const char* flag, const std::string& message) {
  return engine::InvalidArgument(reason::kFlagInvalid, message, {{"flag", flag}});
}

absl::StatusOr<std::string> Key() {
  const std::string path = absl::GetFlag(FLAGS_api_key_file);
  if (path.empty()) return FlagOrEnvironment("", "LECTERN_API_KEY", "");
  std::ifstream file(path);
  std::string key;
  if (!(file >> key)) {
    return Invalid("api_key_file", fmt::format("--api_key_file: {} holds no key", path));
  }
  return key;
}

Connection& Slot() {
  static Connection connection;
  return connection;
}

}  // namespace

const std::vector<std::string_view>& ConnectionFlags() {
  static const auto* const flags = new std::vector<std::string_view>{
      "address",       "tenant", "api_key_file", "tls", "tls_ca", "tls_client_certificate",
      "tls_client_key"};
  return *flags;
}

absl::StatusOr<Connection> ConnectionFromFlags() {
  Connection connection;
  connection.address =
      FlagOrEnvironment(absl::GetFlag(FLAGS_address), "LECTERN_ADDRESS", kDefaultAddress);
  const TlsFiles files = {absl::GetFlag(FLAGS_tls_client_certificate),
                          absl::GetFlag(FLAGS_tls_client_key), absl::GetFlag(FLAGS_tls_ca)};
  const bool system_roots = absl::GetFlag(FLAGS_tls);
  LECTERN_ASSIGN_OR_RETURN(
      connection.credentials,
      ChannelTls(files, {"tls_client_certificate", "tls_client_key", "tls_ca"}, system_roots));
  LECTERN_ASSIGN_OR_RETURN(connection.key, Key());
  const bool encrypted = system_roots || !files.ca.empty();
  if (!connection.key.empty() && !encrypted && !IsLoopback(connection.address)) {
    return Invalid("tls", fmt::format("the API key would cross the network to {} for everybody to "
                                      "read: add --tls or --tls_ca",
                                      connection.address));
  }
  if (!IsId(Tenant())) return Invalid("tenant", fmt::format("\"{}\" is no tenant's id", Tenant()));
  return connection;
}

absl::Status OpenConnection() {
  LECTERN_ASSIGN_OR_RETURN(Slot(), ConnectionFromFlags());
  return absl::OkStatus();
}

const Connection& TheConnection() {
  LECTERN_CHECK(Slot().credentials != nullptr);
  return Slot();
}

std::string Tenant() {
  return FlagOrEnvironment(absl::GetFlag(FLAGS_tenant), "LECTERN_TENANT", kDefaultTenant.data());
}

}  // namespace lectern::services
