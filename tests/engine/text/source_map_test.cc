#include "engine/text/source_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/reason.h"

namespace lectern::engine {
namespace {

// The obvious map: the origin of every text byte.
struct Origin {
  uint64_t begin;
  uint64_t end;
};

struct BuiltMap {
  SourceMap map;
  std::vector<Origin> origins;
};

// Random pieces; with `jumps`, source positions also go back.
BuiltMap RandomMap(std::mt19937& random, int pieces, bool jumps) {
  BuiltMap built;
  SourceMap::Builder builder;
  uint64_t source = jumps ? 10000 : random() % 5;
  for (int i = 0; i < pieces; ++i) {
    if (random() % 3 == 0) source += random() % 300;
    if (jumps && random() % 10 == 0) source -= std::min<uint64_t>(source, random() % 500);
    if (random() % 2 == 0) {
      const uint64_t length = 1 + random() % 200;
      builder.AddLinear(source, length);
      for (uint64_t k = 0; k < length; ++k) built.origins.push_back({source + k, source + k + 1});
      source += length;
    } else {
      const uint64_t text = 1 + random() % 3;
      const uint64_t length = random() % 9;
      builder.AddUnit(text, source, source + length);
      for (uint64_t k = 0; k < text; ++k) built.origins.push_back({source, source + length});
      source += length;
    }
  }
  built.map = std::move(builder).Build();
  return built;
}

SourceRange Expected(const std::vector<Origin>& origins, uint64_t begin, uint64_t end) {
  SourceRange range{origins[begin].begin, origins[begin].end};
  for (uint64_t i = begin; i < end; ++i) {
    range.begin = std::min(range.begin, origins[i].begin);
    range.end = std::max(range.end, origins[i].end);
  }
  return range;
}

class SourceMapProperty : public testing::TestWithParam<int> {};

TEST_P(SourceMapProperty, MapsEveryRangeToTheSmallestThatHoldsItsOrigins) {
  std::mt19937 random(GetParam());
  const BuiltMap built =
      RandomMap(random, 1 + static_cast<int>(random() % 600), GetParam() % 2 == 1);
  ASSERT_EQ(built.map.text_size(), built.origins.size());
  for (int i = 0; i < 500; ++i) {
    const uint64_t begin = random() % built.origins.size();
    const uint64_t end = std::min<uint64_t>(built.origins.size(), begin + 1 + random() % 400);
    ASSERT_EQ(built.map.Map(begin, end), Expected(built.origins, begin, end))
        << begin << " " << end;
  }
}

TEST_P(SourceMapProperty, SurvivesSerialisation) {
  std::mt19937 random(GetParam());
  const BuiltMap built = RandomMap(random, 300, GetParam() % 2 == 1);
  const absl::StatusOr<SourceMap> parsed = SourceMap::Parse(built.map.Serialize());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, built.map);
  EXPECT_EQ(parsed->Map(0, parsed->text_size()), built.map.Map(0, built.map.text_size()));
}

TEST_P(SourceMapProperty, ComposesLikeTwoLookUps) {
  std::mt19937 random(GetParam());
  const BuiltMap inner = RandomMap(random, 200, GetParam() % 3 == 0);
  SourceMap::Builder builder;
  std::vector<Origin> middle;
  uint64_t at = 0;
  while (at + 50 < inner.origins.size()) {
    at += random() % 20;
    const uint64_t length = 1 + random() % 20;
    if (random() % 2 == 0) {
      builder.AddLinear(at, length);
      for (uint64_t k = 0; k < length; ++k) middle.push_back({at + k, at + k + 1});
    } else {
      builder.AddUnit(1, at, at + length);
      middle.push_back({at, at + length});
    }
    at += length;
  }
  if (middle.empty()) return;
  const SourceMap composed = std::move(builder).Build().Compose(inner.map);
  ASSERT_EQ(composed.text_size(), middle.size());
  for (uint64_t i = 0; i < middle.size(); ++i) {
    ASSERT_EQ(composed.Map(i, i + 1), inner.map.Map(middle[i].begin, middle[i].end)) << i;
  }
}

TEST_P(SourceMapProperty, DamagedBytesAreAnErrorOrAMapThatCanBeAsked) {
  std::mt19937 random(GetParam());
  const std::string bytes = RandomMap(random, 40, true).map.Serialize();
  for (int i = 0; i < 300; ++i) {
    std::string damaged =
        bytes.substr(0, random() % 4 == 0 ? random() % bytes.size() : bytes.size());
    if (!damaged.empty()) damaged[random() % damaged.size()] = static_cast<char>(random());
    const absl::StatusOr<SourceMap> parsed = SourceMap::Parse(damaged);
    if (parsed.ok()) {
      parsed->Map(0, parsed->text_size());
    } else {
      const std::string reason = ReasonOf(parsed.status());
      ASSERT_TRUE(reason == reason::kStoredBytesCorrupt || reason == reason::kStoredFormatNewer)
          << parsed.status();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SourceMapProperty, testing::Range(0, 12));

TEST(SourceMap, EmptyRangesAndEmptyMaps) {
  EXPECT_EQ(SourceMap().Map(0, 0), SourceRange{});
  EXPECT_EQ(SourceMap::Identity(0).text_size(), 0u);
  SourceMap::Builder builder;
  builder.AddUnit(1, 4, 9);
  builder.AddLinear(12, 3);
  const SourceMap map = std::move(builder).Build();
  EXPECT_EQ(map.Map(0, 0), (SourceRange{4, 4}));
  EXPECT_EQ(map.Map(1, 1), (SourceRange{12, 12}));
  EXPECT_EQ(map.Map(4, 4), (SourceRange{15, 15}));
  EXPECT_EQ(map.Map(0, 4), (SourceRange{4, 15}));
}

TEST(SourceMap, PagesAreThoseOfTheFirstAndLastByte) {
  SourceMap::Builder builder;
  builder.StartPage();
  builder.AddLinear(0, 10);
  builder.StartPage();  // an empty page
  builder.StartPage();
  builder.AddLinear(10, 10);
  const SourceMap map = std::move(builder).Build();
  EXPECT_EQ(map.PageOf(9), 1u);
  EXPECT_EQ(map.PageOf(10), 3u);
  EXPECT_EQ(map.Map(5, 15), (SourceRange{5, 15, 1, 3}));
  const absl::StatusOr<SourceMap> parsed = SourceMap::Parse(map.Serialize());
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(*parsed, map);
}

TEST(SourceMap, LinearTextCostsNothingAndUnitsCostLittle) {
  EXPECT_LT(SourceMap::Identity(uint64_t{1} << 40).memory_bytes(), 200u);
  SourceMap::Builder builder;
  constexpr int kWords = 100000;
  for (int i = 0; i < kWords; ++i) {
    builder.AddLinear(3 * i, 1);
    builder.AddUnit(1, 3 * i + 1, 3 * i + 3);
  }
  EXPECT_LT(std::move(builder).Build().memory_bytes(), 4u * kWords);
}

TEST(SourceMap, RefusesANewerFormat) {
  const absl::StatusOr<SourceMap> parsed = SourceMap::Parse("\x7f");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(parsed.status()), reason::kStoredFormatNewer);
}

}  // namespace
}  // namespace lectern::engine
