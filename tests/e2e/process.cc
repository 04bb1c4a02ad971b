#include "tests/e2e/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "tests/support/temporary_directory.h"

namespace lectern::testing {
namespace {

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

}  // namespace

Process::Process(std::vector<std::string> command, const std::string& log) : log_(log) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe2");
  const int errors = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (errors < 0) Die(log.c_str());
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) Die("fork");
  if (pid_ == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    execv(arguments[0], arguments.data());
    std::perror(arguments[0]);
    _exit(127);
  }
  close(ends[1]);
  close(errors);
  output_ = ends[0];
}

Process::~Process() {
  if (Running()) {
    Signal(SIGKILL);
    Wait();
  }
  close(output_);
}

std::string Process::ReadLine() {
  while (true) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    char bytes[4096];
    const ssize_t count = read(output_, bytes, sizeof(bytes));
    if (count <= 0) return std::exchange(buffer_, "");
    buffer_.append(bytes, static_cast<size_t>(count));
  }
}

std::string Process::ReadAll() {
  char bytes[4096];
  ssize_t count = 0;
  while ((count = read(output_, bytes, sizeof(bytes))) > 0) {
    buffer_.append(bytes, static_cast<size_t>(count));
  }
  return std::exchange(buffer_, "");
}

std::string Process::Log() const {
  std::ostringstream text;
  text << std::ifstream(log_).rdbuf();
  return std::move(text).str();
}

void Process::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

int Process::Wait() {
  if (pid_ <= 0) return code_;
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) Die("waitpid");
  pid_ = -1;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return code_;
}

bool Process::Running() {
  if (pid_ <= 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return true;
  pid_ = -1;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return false;
}

Finished RunCommand(std::vector<std::string> command) {
  const TemporaryDirectory directory;
  Process process(std::move(command), directory / "errors");
  Finished finished;
  finished.output = process.ReadAll();
  finished.code = process.Wait();
  finished.errors = process.Log();
  return finished;
}

std::string Program(const std::string& name) { return LECTERN_BINARY_DIR "/bin/" + name; }

}  // namespace lectern::testing
