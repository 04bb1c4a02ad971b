#include "services/security/tls.h"

#include <fmt/format.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <ctime>
#include <string_view>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

constexpr unsigned int kRefreshSeconds = 5;

absl::Status Invalid(const std::string& flag, std::string_view what) {
  return engine::InvalidArgument(reason::kFlagInvalid, fmt::format("--{}: {}", flag, what),
                                 {{"flag", flag}});
}

template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

// What `read` makes of the PEM file.
template <typename T, typename Read>
absl::StatusOr<Owned<T>> ReadPem(const std::string& path, const std::string& flag, void (*free)(T*),
                                 const Read& read) {
  const Owned<FILE> file(std::fopen(path.c_str(), "re"), [](FILE* open) { std::fclose(open); });
  if (file == nullptr) return Invalid(flag, fmt::format("{} cannot be read", path));
  Owned<T> value(read(file.get()), free);
  if (value == nullptr) {
    ERR_clear_error();
    return Invalid(flag, fmt::format("{} does not hold what it should, in PEM", path));
  }
  return value;
}

absl::StatusOr<Owned<X509>> ReadCertificate(const std::string& path, const std::string& flag) {
  LECTERN_ASSIGN_OR_RETURN(Owned<X509> certificate,
                           ReadPem<X509>(path, flag, X509_free, [](FILE* file) {
                             return PEM_read_X509(file, nullptr, nullptr, nullptr);
                           }));
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    return Invalid(flag, fmt::format("the certificate in {} has expired", path));
  }
  return certificate;
}

// gRPC would only log what is wrong with the files and then refuse every connection.
absl::Status Check(const TlsFiles& files, const TlsFlagNames& flags) {
  if (files.certificate.empty() != files.key.empty()) {
    return files.key.empty()
               ? Invalid(flags.certificate, fmt::format("needs --{} beside it", flags.key))
               : Invalid(flags.key, fmt::format("needs --{} beside it", flags.certificate));
  }
  if (!files.ca.empty()) LECTERN_RETURN_IF_ERROR(ReadCertificate(files.ca, flags.ca).status());
  if (files.certificate.empty()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const Owned<X509> certificate,
                           ReadCertificate(files.certificate, flags.certificate));
  LECTERN_ASSIGN_OR_RETURN(const Owned<EVP_PKEY> key,
                           ReadPem<EVP_PKEY>(files.key, flags.key, EVP_PKEY_free, [](FILE* file) {
                             // Never ask a terminal for a password.
                             const auto no_password = [](char*, int, int, void*) { return 0; };
                             return PEM_read_PrivateKey(file, nullptr, no_password, nullptr);
                           }));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return Invalid(flags.key, fmt::format("the key in {} is not that of the certificate in {}",
                                          files.key, files.certificate));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerTls(const TlsFiles& files,
                                                                   const TlsFlagNames& flags) {
  LECTERN_RETURN_IF_ERROR(Check(files, flags));
  if (files.certificate.empty()) {
    if (!files.ca.empty()) {
      return Invalid(flags.ca, fmt::format("needs --{} and --{}: there is no TLS without them",
                                           flags.certificate, flags.key));
    }
    return grpc::InsecureServerCredentials();
  }
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<FileWatcherCertificateProvider>(files.key, files.certificate, files.ca,
                                                       kRefreshSeconds));
  options.watch_identity_key_cert_pairs();
  if (!files.ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

std::optional<double> CertificateExpiry(const std::string& path) {
  const Owned<FILE> file(std::fopen(path.c_str(), "re"), [](FILE* open) {
    if (open != nullptr) std::fclose(open);
  });
  if (file == nullptr) return std::nullopt;
  std::optional<double> first;
  while (true) {
    const Owned<X509> certificate(PEM_read_X509(file.get(), nullptr, nullptr, nullptr), X509_free);
    if (certificate == nullptr) break;
    std::tm end = {};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) continue;
    const auto seconds = static_cast<double>(timegm(&end));
    if (!first.has_value() || seconds < *first) first = seconds;
  }
  ERR_clear_error();  // of the end of the file
  return first;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelTls(const TlsFiles& files,
                                                                     const TlsFlagNames& flags,
                                                                     bool system_roots) {
  LECTERN_RETURN_IF_ERROR(Check(files, flags));
  if (files.ca.empty() && !system_roots) {
    if (files.certificate.empty()) return grpc::InsecureChannelCredentials();
    return Invalid(flags.certificate,
                   fmt::format("needs --{}: without it there is no TLS", flags.ca));
  }
  grpc::experimental::TlsChannelCredentialsOptions options;
  if (!files.ca.empty() || !files.certificate.empty()) {
    options.set_certificate_provider(std::make_shared<FileWatcherCertificateProvider>(
        files.key, files.certificate, files.ca, kRefreshSeconds));
  }
  if (!files.ca.empty()) options.watch_root_certs();
  if (!files.certificate.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace lectern::services
