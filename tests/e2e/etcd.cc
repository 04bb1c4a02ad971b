#include "tests/e2e/etcd.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "tests/e2e/loopback.h"

namespace lectern::testing {
namespace {

bool Accepts(const std::string& address) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in to = Loopback(PortOf(address));
  const bool connected =
      connect(descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
  close(descriptor);
  return connected;
}

}  // namespace

Etcd::Etcd(EtcdTls tls)
    : tls_(std::move(tls)), address_(FreeAddress()), peer_address_(FreeAddress()) {
  Start();
}

void Etcd::Start() {
  const std::string client = (tls_.certificate.empty() ? "http://" : "https://") + address_;
  const std::string peer = "http://" + peer_address_;
  std::vector<std::string> command = {"/usr/bin/etcd",
                                      "--name=test",
                                      "--data-dir=" + (directory_ / "data"),
                                      "--listen-client-urls=" + client,
                                      "--advertise-client-urls=" + client,
                                      "--listen-peer-urls=" + peer,
                                      "--initial-advertise-peer-urls=" + peer,
                                      "--initial-cluster=test=" + peer,
                                      "--logger=zap"};
  if (!tls_.certificate.empty()) {
    command.push_back("--cert-file=" + tls_.certificate);
    command.push_back("--key-file=" + tls_.key);
    command.push_back("--client-cert-auth");
    command.push_back("--trusted-ca-file=" + tls_.client_ca);
  }
  process_ = std::make_unique<Process>(command, directory_ / "etcd.log");
  while (!Accepts(address_)) {
    if (!process_->Running()) {
      std::fprintf(stderr, "etcd did not start; its log:\n%s\n", process_->Log().c_str());
      std::abort();
    }
    usleep(10'000);
  }
}

}  // namespace lectern::testing
