#include "tests/e2e/link.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <vector>

#include "tests/e2e/loopback.h"

namespace lectern::testing {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kMostWaiting = 1 << 20;  // bytes of one direction; then the sender has to wait
constexpr milliseconds kTick{2};

// What one side sent and the other has not got yet.
struct Direction {
  struct Piece {
    Clock::time_point due;
    std::string bytes;
  };
  std::deque<Piece> pieces;
  size_t waiting = 0;
  bool ended = false;      // the sender will send no more
  bool passed_on = false;  // and the receiver knows
};

// From one socket to another as far as both can now; whether the connection lives.
bool Pump(int from, int to, milliseconds delay, Direction& direction) {
  char buffer[64 << 10];
  while (!direction.ended && direction.waiting < kMostWaiting) {
    const ssize_t count = recv(from, buffer, sizeof(buffer), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (count < 0) return false;
    direction.ended = count == 0;
    if (count == 0) break;
    direction.pieces.push_back(
        {Clock::now() + delay, std::string(buffer, static_cast<size_t>(count))});
    direction.waiting += static_cast<size_t>(count);
  }
  while (!direction.pieces.empty() && direction.pieces.front().due <= Clock::now()) {
    std::string& bytes = direction.pieces.front().bytes;
    const ssize_t count = send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (count < 0) return false;
    direction.waiting -= static_cast<size_t>(count);
    bytes.erase(0, static_cast<size_t>(count));
    if (!bytes.empty()) break;
    direction.pieces.pop_front();
  }
  if (direction.ended && direction.pieces.empty() && !direction.passed_on) {
    shutdown(to, SHUT_WR);
    direction.passed_on = true;
  }
  return true;
}

struct Connection {
  int near = -1;
  int far = -1;
  Direction out;
  Direction back;

  Connection(int near_socket, int far_socket) : near(near_socket), far(far_socket) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    close(near);
    close(far);
  }
  // Whether it lives.
  bool Pass(milliseconds delay) {
    return Pump(near, far, delay, out) && Pump(far, near, delay, back) &&
           !(out.passed_on && back.passed_on);
  }
};

void SendAtOnce(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
}

}  // namespace

Link::Link(const std::string& to) : to_port_(PortOf(to)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      listen(listener_, SOMAXCONN) != 0) {
    std::perror("link");
    std::abort();
  }
  address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  thread_ = std::thread([this] { Carry(); });
}

Link::~Link() {
  stop_ = true;
  thread_.join();
  close(listener_);
}

void Link::Heal() {
  delay_ms_ = 0;
  cut_ = false;
}

void Link::Carry() {
  std::list<Connection> connections;
  while (!stop_) {
    if (cut_) {
      std::this_thread::sleep_for(kTick);
      continue;
    }
    for (int near = -1; (near = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      const int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_in to = Loopback(to_port_);
      if (connect(far, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
        close(far);
        close(near);
        continue;
      }
      SendAtOnce(near);
      SendAtOnce(far);
      connections.emplace_back(near, far);
    }
    const milliseconds delay{delay_ms_.load()};
    connections.remove_if([&](Connection& connection) { return !connection.Pass(delay); });
    // Bytes that wait for a slow receiver, or for their time, are looked at with the next tick.
    std::vector<pollfd> sockets = {{listener_, POLLIN, 0}};
    for (const Connection& connection : connections) {
      if (!connection.out.ended && connection.out.waiting < kMostWaiting) {
        sockets.push_back({connection.near, POLLIN, 0});
      }
      if (!connection.back.ended && connection.back.waiting < kMostWaiting) {
        sockets.push_back({connection.far, POLLIN, 0});
      }
    }
    poll(sockets.data(), sockets.size(), static_cast<int>(kTick.count()));
  }
}

}  // namespace lectern::testing
