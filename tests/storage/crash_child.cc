// Works on a store until it is killed, and tells on standard output what was acknowledged.
//   crash_child <directory> <seed>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>

#include "crash_workload.h"

namespace {

void Tell(const std::string& line) {
  const std::string text = line + "\n";
  // One write of a short line to a pipe is whole or absent.
  if (write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(3);
}

}  // namespace

int main(int argc, char** argv) {
  using lectern::storage::Must;
  if (argc != 3) return 2;
  try {
    lectern::storage::StoreOptions options;
    options.directory = argv[1];
    const auto store = Must(lectern::storage::Store::Open(options));
    lectern::storage::CrashWorker(store.get(), std::stoull(argv[2]), Tell).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "crash_child: %s\n", error.what());
    return 1;
  }
}
