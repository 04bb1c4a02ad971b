#include "services/cluster/cluster_flags.h"

#include <absl/flags/flag.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <fstream>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/security/tls.h"

ABSL_FLAG(
    std::string, etcd_endpoints, "",
    "HOST:PORT,... of the etcd that says which workers there are and which corpora they hold; "
    "empty: no cluster");
ABSL_FLAG(std::string, etcd_prefix, "/lectern/",
          "what the cluster's keys in etcd begin with; clusters that share an etcd need different "
          "ones");
ABSL_FLAG(std::string, etcd_ca, "",
          "PEM file of CAs: speak TLS with etcd, whose certificate must be from one of them");
ABSL_FLAG(std::string, etcd_certificate, "",
          "PEM file of the certificate that etcd is shown (mutual TLS)");
ABSL_FLAG(std::string, etcd_key, "", "PEM file of that certificate's key");
ABSL_FLAG(std::string, etcd_user, "", "user in etcd, where it has authentication");
ABSL_FLAG(std::string, etcd_password_file, "", "file that holds that user's password");

namespace lectern::services {
namespace {

absl::Status Invalid(const char* flag, std::string_view what) {
  return engine::InvalidArgument(reason::kFlagInvalid, fmt::format("--{}: {}", flag, what),
                                 {{"flag", flag}});
}

absl::StatusOr<std::string> Password() {
  const std::string path = absl::GetFlag(FLAGS_etcd_password_file);
  if (path.empty()) return Invalid("etcd_user", "needs --etcd_password_file beside it");
  std::ifstream file(path);
  std::string password;
  if (!file || !std::getline(file, password) || password.empty()) {
    return Invalid("etcd_password_file", fmt::format("{} holds no password", path));
  }
  return password;
}

}  // namespace

bool InCluster() { return !absl::GetFlag(FLAGS_etcd_endpoints).empty(); }

std::string EtcdPrefixFromFlags() { return absl::GetFlag(FLAGS_etcd_prefix); }

absl::StatusOr<EtcdClient::Options> EtcdOptionsFromFlags() {
  EtcdClient::Options options;
  for (const auto& endpoint :
       absl::StrSplit(absl::GetFlag(FLAGS_etcd_endpoints), ',', absl::SkipWhitespace())) {
    const std::string address(endpoint);
    if (address.find("://") != std::string::npos || address.find(':') == std::string::npos) {
      return Invalid("etcd_endpoints", fmt::format("\"{}\" is not HOST:PORT", address));
    }
    options.endpoints.push_back(address);
  }
  if (options.endpoints.empty()) return Invalid("etcd_endpoints", "names no endpoint");
  if (EtcdPrefixFromFlags().empty()) return Invalid("etcd_prefix", "must not be empty");
  LECTERN_ASSIGN_OR_RETURN(
      options.credentials,
      ChannelTls({absl::GetFlag(FLAGS_etcd_certificate), absl::GetFlag(FLAGS_etcd_key),
                  absl::GetFlag(FLAGS_etcd_ca)},
                 {"etcd_certificate", "etcd_key", "etcd_ca"}, /*system_roots=*/false));
  options.user = absl::GetFlag(FLAGS_etcd_user);
  if (!options.user.empty()) {
    LECTERN_ASSIGN_OR_RETURN(options.password, Password());
  }
  return options;
}

}  // namespace lectern::services
