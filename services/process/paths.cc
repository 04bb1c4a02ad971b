#include "services/process/paths.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace lectern::services {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string HomeDir() {
  if (std::string home = Environment("HOME"); !home.empty()) return home;
  const passwd* user = getpwuid(getuid());
  return user == nullptr ? "/" : user->pw_dir;
}

}  // namespace

std::string DefaultDataDir() {
  const std::string data_home = Environment("XDG_DATA_HOME");
  const std::filesystem::path parent = data_home.empty()
                                           ? std::filesystem::path(HomeDir()) / ".local" / "share"
                                           : std::filesystem::path(data_home);
  return parent / "lectern";
}

std::string DefaultModelDir() {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "";
  while (folder.has_relative_path()) {
    folder = folder.parent_path();
    for (const char* below : {"share/lectern/models/default", "models/default"}) {
      if (std::filesystem::exists(folder / below / "config.json", error)) return folder / below;
    }
  }
  return "";
}

}  // namespace lectern::services
