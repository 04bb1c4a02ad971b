#include "tests/campaign/results.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "storage/store.h"

namespace lectern::campaign {
namespace {

std::string Output(const std::string& command) {
  std::string text;
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 256> buffer;
  while (fgets(buffer.data(), buffer.size(), pipe) != nullptr) text += buffer.data();
  pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string Commit() {
  return Output("git -C " LECTERN_SOURCE_DIR " rev-parse --short HEAD 2>/dev/null");
}

std::string Device() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      return fmt::format("{}, {} threads", line.substr(line.find(':') + 2),
                         std::thread::hardware_concurrency());
    }
  }
  return fmt::format("{} threads", std::thread::hardware_concurrency());
}

std::string Today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof(text), "%Y-%m-%d", std::gmtime(&now));
  return text;
}

}  // namespace

void WriteRows(const std::string& path, const std::vector<Row>& rows) {
  if (path.empty()) return;
  nlohmann::json result = LoadState(path);
  result["device"] = Device();
  result["date"] = Today();
  result["commit"] = Commit();
  nlohmann::json merged = nlohmann::json::array();
  const auto is_new = [&](const nlohmann::json& old) {
    for (const Row& row : rows) {
      if (old["metric"] == row.metric && old["size"] == row.size) return false;
    }
    return true;
  };
  for (const nlohmann::json& old : result.value("rows", nlohmann::json::array())) {
    if (is_new(old)) merged.push_back(old);
  }
  for (const Row& row : rows) {
    merged.push_back({{"metric", row.metric},
                      {"size", row.size},
                      {"value", row.value},
                      {"unit", row.unit},
                      {"against", row.against},
                      {"ratio", row.ratio}});
  }
  result["rows"] = merged;
  SaveState(path, result);
}

std::string ResultKey() { return fmt::format("{}-format{}", Commit(), storage::kFormatVersion); }

nlohmann::json LoadState(const std::string& path) {
  std::ifstream file(path);
  if (!file) return nlohmann::json::object();
  nlohmann::json state = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  return state.is_object() ? state : nlohmann::json::object();
}

void SaveState(const std::string& path, const nlohmann::json& state) {
  const std::string fresh = path + ".new";
  std::ofstream(fresh) << state.dump(1) << "\n";
  std::filesystem::rename(fresh, path);
}

}  // namespace lectern::campaign
