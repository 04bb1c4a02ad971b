// Reads the files of tests/golden.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

namespace lectern::engine {

// A golden file: named tensors of int32 and fp32.
class Golden {
 public:
  explicit Golden(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    uint64_t size = 0;
    file.read(reinterpret_cast<char*>(&size), sizeof(size));
    std::string header(size, '\0');
    file.read(header.data(), static_cast<std::streamsize>(size));
    header_ = nlohmann::json::parse(header);
    data_.assign(std::istreambuf_iterator<char>(file), {});
  }

  template <typename T>
  std::vector<T> Get(const std::string& name) const {
    const auto& entry = header_.at(name);
    EXPECT_EQ(entry.at("dtype"), (std::is_same_v<T, float> ? "F32" : "I32")) << name;
    const size_t begin = entry.at("data_offsets")[0];
    const size_t end = entry.at("data_offsets")[1];
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), data_.data() + begin, end - begin);
    return values;
  }

 private:
  nlohmann::json header_;
  std::string data_;
};

}  // namespace lectern::engine
