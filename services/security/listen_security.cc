#include "services/security/listen_security.h"

#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/security/tls.h"

ABSL_FLAG(
    std::string, tls_certificate, "",
    "PEM file of this server's certificate with its chain; with --tls_key it makes the server "
    "speak TLS only. All these files are read again when they change");
ABSL_FLAG(std::string, tls_key, "", "PEM file of the certificate's key");
ABSL_FLAG(std::string, tls_client_ca, "",
          "PEM file of CAs: callers must show a certificate from one of them (mutual TLS)");
ABSL_FLAG(bool, allow_insecure, false,
          "listen on addresses that other machines can reach although there is no TLS or no "
          "authentication");

namespace lectern::services {

bool IsLoopback(std::string_view address) {
  const std::string_view host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

bool ClientCertificatesRequired() { return !absl::GetFlag(FLAGS_tls_client_ca).empty(); }

void AddCertificateExpiry(Levels& levels, const std::string& flag, const std::string& path) {
  if (path.empty()) return;
  levels.Add("lectern_certificate_expiry_time_seconds",
             "When the first certificate in a flag's file expires, Unix time.", {"flag", flag},
             [path] { return CertificateExpiry(path); });
}

void AddCertificateExpiries(Levels& levels) {
  AddCertificateExpiry(levels, "tls_certificate", absl::GetFlag(FLAGS_tls_certificate));
  AddCertificateExpiry(levels, "tls_client_ca", absl::GetFlag(FLAGS_tls_client_ca));
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> CredentialsFromFlags(
    const std::string& address, bool authenticated, std::string_view how) {
  const TlsFiles files = {absl::GetFlag(FLAGS_tls_certificate), absl::GetFlag(FLAGS_tls_key),
                          absl::GetFlag(FLAGS_tls_client_ca)};
  LECTERN_ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                           ServerTls(files, {"tls_certificate", "tls_key", "tls_client_ca"}));
  const bool guarded = !files.certificate.empty() && authenticated;
  if (!guarded && !IsLoopback(address) && !absl::GetFlag(FLAGS_allow_insecure)) {
    return engine::InvalidArgument(
        reason::kFlagInvalid,
        fmt::format("--listen={} can be reached from other machines: that needs --tls_certificate, "
                    "--tls_key and {}, or --allow_insecure if something else guards it",
                    address, how),
        {{"flag", "listen"}});
  }
  return credentials;
}

}  // namespace lectern::services
