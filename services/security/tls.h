// TLS from files. They are read again when they change (looked at every few seconds), so that
// certificates are renewed without a restart; a certificate and its key must change together, by
// the rename of a folder or symbolic link, as Kubernetes mounts them.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <optional>
#include <string>

namespace lectern::services {

// PEM files; "" where there is none.
struct TlsFiles {
  std::string certificate;  // our own, with its chain
  std::string key;
  std::string ca;  // whom the other side's certificate must come from
};

// What the names of the flags are, for messages.
struct TlsFlagNames {
  std::string certificate;
  std::string key;
  std::string ca;
};

// With a `ca`, clients must show a certificate from it (mutual TLS). Without any file: no TLS.
//   INVALID_ARGUMENT FLAG_INVALID  a certificate without its key or the other way round, a ca
//   without
//                                  both; a file that cannot be read or is not PEM; a key that is
//                                  not the certificate's; a certificate that has expired
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerTls(const TlsFiles& files,
                                                                   const TlsFlagNames& flags);

// With a `ca`, or `system_roots`: TLS, and the server's certificate must come from it and name the
// address. With a certificate and key: mutual TLS. Errors as above; a certificate without any ca is
// one.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelTls(const TlsFiles& files,
                                                                     const TlsFlagNames& flags,
                                                                     bool system_roots);

// When the first of the certificates in a PEM file expires, Unix time; nothing if there is none.
std::optional<double> CertificateExpiry(const std::string& path);

}  // namespace lectern::services
