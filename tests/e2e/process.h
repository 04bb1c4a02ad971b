// Real processes: started, listened to, killed.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace lectern::testing {

class Process {
 public:
  // Runs the program with its standard error in `log`. Ends the test program if it cannot.
  Process(std::vector<std::string> command, const std::string& log);
  // Kills it if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // The next line of its standard output, without the end of line; "" at its end.
  std::string ReadLine();
  // All that is left of its standard output.
  std::string ReadAll();
  // What it has written to its standard error so far.
  std::string Log() const;

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  // Waits for its end; returns the exit code, or -signal.
  int Wait();
  bool Running();

 private:
  const std::string log_;
  pid_t pid_ = -1;
  int output_ = -1;
  std::string buffer_;
  int code_ = 0;
};

// Runs a command to its end.
struct Finished {
  int code = 0;
  std::string output;
  std::string errors;
};
Finished RunCommand(std::vector<std::string> command);

// A program of this build: "lectern", "lectern-worker", "lectern-gateway".
std::string Program(const std::string& name);

}  // namespace lectern::testing
