// Reading fixtures from the source tree.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace lectern::engine {

inline std::string ReadSourceFile(const std::string& path) {
  std::ifstream file(std::string(LECTERN_SOURCE_DIR) + "/" + path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

inline nlohmann::json ReadSourceJson(const std::string& path) {
  return nlohmann::json::parse(ReadSourceFile(path));
}

}  // namespace lectern::engine
