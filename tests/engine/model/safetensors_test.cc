#include "engine/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "tests/engine/model/model_files.h"

namespace lectern::engine {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

TestTensors Two() {
  return {
      {"a", {"BF16", {2, 3}, std::string("\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00\x06\x00", 12)}},
      {"b", {"F32", {1}, std::string("\0\0\x80\x3f", 4)}}};
}

absl::StatusOr<std::vector<TensorView>> Parse(std::string_view bytes) {
  return SafetensorsFile::ParseTensors(std::as_bytes(std::span(bytes)), "x.safetensors");
}

void ExpectBroken(const std::string& bytes, const char* what) {
  const absl::Status status = Parse(bytes).status();
  EXPECT_EQ(ReasonOf(status), reason::kSafetensorsBroken) << what;
  EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  EXPECT_THAT(std::string(status.message()), HasSubstr("x.safetensors"));
}

TEST(Safetensors, ReadsViewsInPlace) {
  const std::string bytes = SafetensorsBytes(Two());
  const auto tensors = Parse(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ((*tensors)[0].Describe(), "BF16 [2, 3]");
  EXPECT_EQ(reinterpret_cast<const char*>((*tensors)[0].bytes.data()),
            bytes.data() + bytes.size() - 16);
  EXPECT_EQ((*tensors)[1].bytes.size(), 4u);
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string bytes = SafetensorsBytes(Two());
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_EQ(ReasonOf(Parse(bytes.substr(0, size)).status()), reason::kSafetensorsBroken) << size;
  }
  ExpectBroken(bytes + "x", "after the last tensor");
}

TEST(Safetensors, BelievesNoSize) {
  const auto spoil = [](const std::function<void(json&)>& edit) {
    return SafetensorsBytes(Two(), edit);
  };
  std::string length = SafetensorsBytes(Two());
  const uint64_t huge = ~uint64_t{0};
  std::memcpy(length.data(), &huge, 8);
  ExpectBroken(length, "header says");
  const uint64_t large = 90'000'000;
  std::memcpy(length.data(), &large, 8);
  ExpectBroken(length, "the file has");
  ExpectBroken(spoil([](json& h) { h["a"]["data_offsets"] = {0, 1000}; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["a"]["data_offsets"] = {12, 0}; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["a"]["data_offsets"] = {-1, 11}; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["a"]["data_offsets"] = {0.0, 12.0}; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["a"]["data_offsets"] = {0}; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["b"]["data_offsets"] = {8, 12}; }), "overlaps");
  ExpectBroken(spoil([](json& h) { h["a"]["shape"] = {2, 2}; }), "by its shape");
  ExpectBroken(spoil([](json& h) { h["a"]["shape"] = {-2, -3}; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["a"]["shape"] = {uint64_t{1} << 63, 2, 3}; }), "multiplied");
  ExpectBroken(spoil([](json& h) { h["a"]["shape"] = {1, 1, 1, 1, 1, 1, 1, 2, 3}; }), "dimensions");
  ExpectBroken(spoil([](json& h) { h["a"]["shape"] = "x"; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h["a"]["dtype"] = "F7"; }), "F7");
  ExpectBroken(spoil([](json& h) { h["a"] = 5; }), "\"a\"");
  ExpectBroken(spoil([](json& h) { h.erase("a"); }), "belong to none");
  ExpectBroken(spoil([](json& h) { h = json::array(); }), "JSON");
}

TEST(Safetensors, ANameTwiceIsAnError) {
  std::string header =
      R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})";
  const uint64_t size = header.size();
  ExpectBroken(std::string(reinterpret_cast<const char*>(&size), 8) + header + "x", "twice");
}

TEST(Safetensors, RandomDamageNeverCrashes) {
  const std::string bytes = SafetensorsBytes(Two());
  std::mt19937 random(4);
  for (int round = 0; round < 5000; ++round) {
    std::string damaged = bytes;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto tensors = Parse(damaged);
    if (!tensors.ok()) continue;
    for (const TensorView& tensor : *tensors) {
      ASSERT_GE(tensor.bytes.data(), std::as_bytes(std::span(damaged)).data());
      ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(),
                std::as_bytes(std::span(damaged)).data() + damaged.size());
    }
  }
}

TEST(SafetensorsSet, OneFileOrShards) {
  TempDirectory single;
  WriteFile(single.File("model.safetensors"), SafetensorsBytes(Two()));
  const auto one = SafetensorsSet::Open(single.path());
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_NE(one->Find("b"), nullptr);
  EXPECT_EQ(one->Find("c"), nullptr);

  TempDirectory sharded;
  TestTensors a = Two(), b = Two();
  a.erase("b");
  b.erase("a");
  WriteFile(sharded.File("s1.safetensors"), SafetensorsBytes(a));
  WriteFile(sharded.File("s2.safetensors"), SafetensorsBytes(b));
  const auto index = [&](const json& map) {
    WriteFile(sharded.File("model.safetensors.index.json"), json{{"weight_map", map}}.dump());
  };
  index({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}});
  const auto two = SafetensorsSet::Open(sharded.path());
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->files().size(), 2u);
  EXPECT_EQ(two->tensors().size(), 2u);

  const auto refused = [&] { return ReasonOf(SafetensorsSet::Open(sharded.path()).status()); };
  index({{"a", "s2.safetensors"}, {"b", "s2.safetensors"}});
  EXPECT_EQ(refused(), reason::kSafetensorsBroken);
  index({{"a", "../s1.safetensors"}});
  EXPECT_EQ(refused(), reason::kSafetensorsBroken);
  index({{"a", "s3.safetensors"}});
  EXPECT_EQ(refused(), reason::kModelFileUnreadable);
  index(json::object());
  EXPECT_EQ(refused(), reason::kSafetensorsBroken);
  WriteFile(sharded.File("s2.safetensors"), SafetensorsBytes(Two()));
  index({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}});
  EXPECT_EQ(refused(), reason::kSafetensorsBroken);  // "a" is in both
  WriteFile(sharded.File("model.safetensors.index.json"), "{");
  EXPECT_EQ(refused(), reason::kSafetensorsBroken);
}

TEST(SafetensorsSet, MissingAndEmptyFiles) {
  TempDirectory directory;
  const absl::Status missing = SafetensorsSet::Open(directory.path()).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(missing), reason::kModelFileUnreadable);
  WriteFile(directory.File("model.safetensors"), "");
  EXPECT_EQ(ReasonOf(SafetensorsSet::Open(directory.path()).status()), reason::kSafetensorsBroken);
  std::filesystem::remove(directory.File("model.safetensors"));
  std::filesystem::create_directory(directory.File("model.safetensors"));
  EXPECT_EQ(ReasonOf(SafetensorsSet::Open(directory.path()).status()),
            reason::kModelFileUnreadable);
}

}  // namespace
}  // namespace lectern::engine
