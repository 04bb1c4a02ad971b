#include "tests/e2e/etcd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace lectern::testing {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool Accepts(const std::string& address) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in to = Loopback(std::stoi(address.substr(address.rfind(':') + 1)));
  const bool connected =
      connect(descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
  close(descriptor);
  return connected;
}

}  // namespace

int FreePort() {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(descriptor, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::perror("port");
    std::abort();
  }
  close(descriptor);
  return ntohs(address.sin_port);
}

Etcd::Etcd(EtcdTls tls)
    : tls_(std::move(tls)),
      address_("127.0.0.1:" + std::to_string(FreePort())),
      peer_address_("127.0.0.1:" + std::to_string(FreePort())) {
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
