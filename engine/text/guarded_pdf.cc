// PDF in a process of its own. A PDF is a program for a large interpreter that is not ours: a small
// file can ask for any amount of memory and time, and a malformed one can bring the reader down.
// The child has limits, and what becomes of it is an error of one document.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/pdf_text.h"

namespace lectern::engine {
namespace {

// What the child sends: for each page kPage and its text, then kEnd; or kRefused, the reason and
// the message. Texts have their length (8 bytes) before them.
constexpr char kPage = 'P';
constexpr char kRefused = 'R';
constexpr char kEnd = 'E';
// What a child that has no memory left ends with.
constexpr int kExitNoMemory = 9;

// Ends the child without the parent's exit handlers, which are not its business: poppler calls exit
// when an allocation fails, and the last handler registered is the first to run.
void LeaveAtOnce() { _exit(kExitNoMemory); }

bool SendAll(int pipe, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(pipe, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

bool SendText(int pipe, std::string_view text) {
  const uint64_t size = text.size();
  char head[sizeof(size)];
  std::memcpy(head, &size, sizeof(size));
  return SendAll(pipe, {head, sizeof(head)}) && SendAll(pipe, text);
}

// Address space in use now. Limits are set above it: a child begins with all that its parent has
// mapped.
uint64_t MappedBytes() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

void SetLimit(int resource, uint64_t limit) {
  const rlimit value = {limit, limit};
  setrlimit(static_cast<__rlimit_resource>(resource), &value);
}

[[noreturn]] void RunChild(std::string_view pdf, int pipe, uint64_t address_limit, int seconds) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::atexit(LeaveAtOnce);
  SetLimit(RLIMIT_CORE, 0);
  SetLimit(RLIMIT_AS, address_limit);
  SetLimit(RLIMIT_CPU, static_cast<uint64_t>(seconds));
  try {
    const absl::StatusOr<std::vector<std::string>> pages = ReadPdfPagesHere(pdf);
    bool sent = true;
    if (pages.ok()) {
      for (const std::string& page : *pages) {
        sent = sent && SendAll(pipe, {&kPage, 1}) && SendText(pipe, page);
      }
      sent = sent && SendAll(pipe, {&kEnd, 1});
    } else {
      const absl::string_view message = pages.status().message();
      sent = SendAll(pipe, {&kRefused, 1}) && SendText(pipe, ReasonOf(pages.status())) &&
             SendText(pipe, {message.data(), message.size()});
    }
    _exit(sent ? 0 : 1);
  } catch (...) {  // out of memory, in the terms of another library
    _exit(kExitNoMemory);
  }
}

// Everything that the child sends until it ends, at most `limit` bytes and until `deadline`.
bool Receive(int pipe, std::chrono::steady_clock::time_point deadline, uint64_t limit,
             std::string* received) {
  char piece[1 << 16];
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd ready = {pipe, POLLIN, 0};
    const int polled = poll(&ready, 1, static_cast<int>(left.count()));
    if (polled < 0 && errno != EINTR) return false;
    if (polled <= 0) continue;
    const ssize_t count = read(pipe, piece, sizeof(piece));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    if (count == 0) return true;
    received->append(piece, static_cast<size_t>(count));
    if (received->size() > limit) return false;
  }
}

// Takes one text off the front; false if it is cut short.
bool TakeText(std::string_view* rest, std::string* text) {
  uint64_t size = 0;
  if (rest->size() < sizeof(size)) return false;
  std::memcpy(&size, rest->data(), sizeof(size));
  rest->remove_prefix(sizeof(size));
  if (size > rest->size()) return false;
  text->assign(rest->substr(0, size));
  rest->remove_prefix(size);
  return true;
}

absl::Status TooComplex(const PdfLimits& limits) {
  return InvalidArgument(
      reason::kPdfTooComplex,
      fmt::format("reading this PDF takes more than {} MiB of memory, {} s, or gives more than {} "
                  "MiB of text; split it, or upload its text",
                  limits.memory_bytes >> 20, limits.seconds, limits.text_bytes >> 20),
      {{"limit_bytes", std::to_string(limits.memory_bytes)},
       {"limit_seconds", std::to_string(limits.seconds)}});
}

// What the child said, or what its end means.
absl::StatusOr<std::vector<std::string>> Understand(std::string_view said, bool whole, int state,
                                                    const PdfLimits& limits) {
  std::vector<std::string> pages;
  while (whole && !said.empty()) {
    const char kind = said.front();
    said.remove_prefix(1);
    std::string text;
    if (kind == kEnd) return pages;
    if (!TakeText(&said, &text)) break;
    if (kind == kPage) {
      pages.push_back(std::move(text));
      continue;
    }
    std::string message;
    if (kind != kRefused || !TakeText(&said, &message)) break;
    return InvalidArgument(text, message);
  }
  const bool crashed = whole && WIFSIGNALED(state) && WTERMSIG(state) != SIGXCPU &&
                       WTERMSIG(state) != SIGKILL && WTERMSIG(state) != SIGABRT;
  if (!crashed) return TooComplex(limits);
  return InvalidArgument(
      reason::kPdfBroken,
      "cannot read this PDF: it is damaged in a way that ends the reader; repair "
      "it (for example by printing it to a new PDF) or upload its text");
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadPdfPages(std::string_view pdf,
                                                      const PdfLimits& limits) {
  // One at a time: memory is bounded by one child, and no thread holds a lock of poppler's while
  // another forks. (malloc's locks are taken care of by the C library.)
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return Error(absl::StatusCode::kResourceExhausted, "PROCESS_LIMIT",
                 fmt::format("no pipe for reading a PDF: {}", std::strerror(errno)));
  }
  const uint64_t address_limit = MappedBytes() + limits.memory_bytes;
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    RunChild(pdf, ends[1], address_limit, limits.seconds);
  }
  close(ends[1]);
  if (child < 0) {
    const int error = errno;
    close(ends[0]);
    return Error(absl::StatusCode::kResourceExhausted, "PROCESS_LIMIT",
                 fmt::format("no process for reading a PDF: {}", std::strerror(error)));
  }
  std::string said;
  // The limit is of computing time; this one is for a child that waits for something.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(4 * limits.seconds);
  const bool whole = Receive(ends[0], deadline, limits.text_bytes, &said);
  close(ends[0]);
  if (!whole) kill(child, SIGKILL);
  int state = 0;
  while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
  }
  return Understand(said, whole, state, limits);
}

}  // namespace lectern::engine
