// A network link between processes of a test, which can be cut and slowed: what a switch does to
// them.
#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

namespace lectern::testing {

// Listens on a port of the loopback interface and carries bytes to and from another one.
// Thread-safe.
class Link {
 public:
  // `to`: "127.0.0.1:PORT" of whoever listens there, now or later. Ends the test program if it
  // cannot listen.
  explicit Link(const std::string& to);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  const std::string& address() const { return address_; }

  // Nothing passes any more, in either direction, and nobody is told: connections stay, what was
  // sent waits, new ones are not answered.
  void Cut() { cut_ = true; }
  // Every piece arrives that much later.
  void Slow(std::chrono::milliseconds delay) { delay_ms_ = delay.count(); }
  // As at the beginning; what waited passes.
  void Heal();

 private:
  void Carry();

  const int to_port_;
  int listener_ = -1;
  std::string address_;
  std::atomic<bool> cut_ = false;
  std::atomic<int64_t> delay_ms_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace lectern::testing
