// A real etcd with a data directory of its own, on free ports of the loopback interface.
#pragma once

#include <memory>
#include <string>

#include "tests/e2e/process.h"
#include "tests/support/temporary_directory.h"

namespace lectern::testing {

struct EtcdTls {  // PEM files; empty: none
  std::string certificate;
  std::string key;
  std::string client_ca;
};

class Etcd {
 public:
  // Starts it and waits until it accepts connections. Ends the test program if it does not.
  explicit Etcd(EtcdTls tls = {});

  const std::string& address() const { return address_; }
  Process& process() { return *process_; }
  // After its end: the same data, the same port.
  void Start();

 private:
  const TemporaryDirectory directory_;
  const EtcdTls tls_;
  std::string address_;
  std::string peer_address_;
  std::unique_ptr<Process> process_;
};

}  // namespace lectern::testing
