#include "tests/support/certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace lectern::testing {
namespace {

constexpr long kDay = 24 * 3600;

void Must(bool done, const char* what) {
  if (done) return;
  std::fprintf(stderr, "certificates: %s failed\n", what);
  std::abort();
}

template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

template <typename T, typename Read>
Owned<T> ReadPem(const std::string& path, void (*free)(T*), const Read& read) {
  FILE* file = std::fopen(path.c_str(), "re");
  Must(file != nullptr, "open");
  Owned<T> value(read(file), free);
  std::fclose(file);
  Must(value != nullptr, "read");
  return value;
}

Owned<X509> ReadCertificate(const std::string& path) {
  return ReadPem<X509>(path, X509_free,
                       [](FILE* file) { return PEM_read_X509(file, nullptr, nullptr, nullptr); });
}

Owned<EVP_PKEY> ReadKey(const std::string& path) {
  return ReadPem<EVP_PKEY>(path, EVP_PKEY_free, [](FILE* file) {
    return PEM_read_PrivateKey(file, nullptr, nullptr, nullptr);
  });
}

void AddExtension(X509* certificate, X509* issuer, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value),
                                        X509_EXTENSION_free);
  Must(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1, "extension");
}

}  // namespace

Certificates::Certificates(const std::string& directory) : directory_(directory) {
  ca_ = Make("ca", nullptr, kDay);
}

Certificates::Files Certificates::Issue(const std::string& name) const {
  return Make(name, &ca_, kDay);
}

Certificates::Files Certificates::IssueExpired(const std::string& name) const {
  return Make(name, &ca_, -60);
}

Certificates::Files Certificates::Make(const std::string& name, const Files* issuer,
                                       long seconds) const {
  const Files files = {directory_ + "/" + name + ".pem", directory_ + "/" + name + ".key"};
  if (std::filesystem::exists(files.certificate)) return files;
  const Owned<EVP_PKEY> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const Owned<X509> certificate(X509_new(), X509_free);
  Must(key != nullptr && certificate != nullptr, "key");
  uint64_t serial = 0;
  Must(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial)) == 1, "random");
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), seconds);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  if (issuer == nullptr) {
    X509_set_issuer_name(certificate.get(), subject);
    AddExtension(certificate.get(), certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
    Must(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0, "sign");
  } else {
    const Owned<X509> authority = ReadCertificate(issuer->certificate);
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(authority.get()));
    AddExtension(certificate.get(), authority.get(), NID_subject_alt_name,
                 "IP:127.0.0.1,DNS:localhost");
    Must(X509_sign(certificate.get(), ReadKey(issuer->key).get(), EVP_sha256()) > 0, "sign");
  }
  FILE* file = std::fopen(files.key.c_str(), "we");
  Must(file != nullptr &&
           PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
       "write the key");
  std::fclose(file);
  file = std::fopen(files.certificate.c_str(), "we");
  Must(file != nullptr && PEM_write_X509(file, certificate.get()) == 1, "write the certificate");
  std::fclose(file);
  return files;
}

}  // namespace lectern::testing
