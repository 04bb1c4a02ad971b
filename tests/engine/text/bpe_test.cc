#include "engine/text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/reason.h"

namespace lectern::engine {
namespace {

using nlohmann::json;

// A model over all bytes with `merges` random merges of tokens made of few letters, so that they
// apply often.
json RandomModel(std::mt19937& random, int merges, std::string_view letters) {
  json model = {{"type", "BPE"}, {"vocab", json::object()}, {"merges", json::array()}};
  for (int byte = 0; byte < 256; ++byte)
    model["vocab"][SpellBytes(std::string(1, static_cast<char>(byte)))] = byte;
  std::vector<std::string> tokens;
  for (const char letter : letters) tokens.push_back(SpellBytes(std::string(1, letter)));
  while (static_cast<int>(model["merges"].size()) < merges) {
    const std::string left = tokens[random() % tokens.size()];
    const std::string right = tokens[random() % tokens.size()];
    if (left.size() + right.size() > 24 || model["vocab"].contains(left + right)) continue;
    model["vocab"][left + right] = model["vocab"].size();
    model["merges"].push_back({left, right});
    tokens.push_back(left + right);
  }
  return model;
}

// Merges by the definition, over and over: the lowest rank first, the leftmost of equals.
std::vector<TokenId> MergeByDefinition(const json& model, std::string_view word) {
  std::vector<std::string> parts;
  for (const char byte : word) parts.push_back(SpellBytes(std::string(1, byte)));
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < model["merges"].size(); ++i)
    ranks[{model["merges"][i][0], model["merges"][i][1]}] = i;
  while (true) {
    size_t best_rank = ranks.size();
    size_t best = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find({parts[i], parts[i + 1]});
      if (found != ranks.end() && found->second < best_rank) {
        best_rank = found->second;
        best = i;
      }
    }
    if (best_rank == ranks.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<int64_t>(best) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& part : parts) ids.push_back(model["vocab"][part]);
  return ids;
}

std::vector<TokenId> Ids(const BpeModel& model, std::string_view word) {
  std::vector<WordToken> tokens;
  EXPECT_TRUE(model.Encode(word, &tokens).ok());
  std::vector<TokenId> ids;
  size_t bytes = 0;
  for (const WordToken& token : tokens) {
    ids.push_back(token.id);
    bytes += token.bytes;
  }
  EXPECT_EQ(bytes, word.size());
  return ids;
}

class BpeProperty : public testing::TestWithParam<int> {};

TEST_P(BpeProperty, ShortAndLongWordsMergeAsDefined) {
  std::mt19937 random(GetParam());
  // One letter (runs), three (much merging), many (words part where no token spans two bytes).
  const std::string letters = std::string("abcdefghijklmnop")
                                  .substr(0, GetParam() % 3 == 0   ? 1
                                             : GetParam() % 3 == 1 ? 3
                                                                   : 16);
  const json description = RandomModel(random, GetParam() % 3 == 0 ? 6 : 60, letters);
  const absl::StatusOr<BpeModel> model = BpeModel::Parse(description);
  ASSERT_TRUE(model.ok()) << model.status();
  for (const size_t length : {1, 2, 3, 7, 20, 47, 48, 49, 50, 96, 130, 300}) {
    for (int round = 0; round < 6; ++round) {
      std::string word;
      for (size_t i = 0; i < length; ++i)
        word.push_back(random() % 40 == 0 ? static_cast<char>(random())
                                          : letters[random() % letters.size()]);
      ASSERT_EQ(Ids(*model, word), MergeByDefinition(description, word))
          << testing::PrintToString(word);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, BpeProperty, testing::Range(0, 12));

TEST(Bpe, OneWordOfMegabytesTakesNoSquareOfIt) {
  std::mt19937 random(5);
  const absl::StatusOr<BpeModel> model = BpeModel::Parse(RandomModel(random, 12, "a"));
  ASSERT_TRUE(model.ok());
  EXPECT_FALSE(Ids(*model, std::string(kMaxWordBytes, 'a')).empty());
  std::vector<WordToken> tokens;
  const absl::Status status = model->Encode(std::string(kMaxWordBytes + 1, 'a'), &tokens);
  EXPECT_EQ(ReasonOf(status), reason::kWordTooLong);
  // Where tokens part anyway there is no limit.
  EXPECT_EQ(Ids(*model, std::string(kMaxWordBytes + 1, '-')).size(), kMaxWordBytes + 1);
}

TEST(Bpe, ReadsBothSpellingsOfMerges) {
  std::mt19937 random(6);
  json description = RandomModel(random, 20, "xyz");
  const absl::StatusOr<BpeModel> pairs = BpeModel::Parse(description);
  for (json& merge : description["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  const absl::StatusOr<BpeModel> lines = BpeModel::Parse(description);
  ASSERT_TRUE(pairs.ok() && lines.ok()) << lines.status();
  EXPECT_EQ(Ids(*pairs, "xyzzyxyzxyzyx"), Ids(*lines, "xyzzyxyzxyzyx"));
}

TEST(Bpe, AlphabetRoundTrips) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  std::string back;
  EXPECT_TRUE(ReadSpelled(SpellBytes(all), &back));
  EXPECT_EQ(back, all);
  EXPECT_EQ(SpellBytes(" a\n"),
            "\xc4\xa0"
            "a\xc4\x8a");
  EXPECT_FALSE(ReadSpelled("\xe2\x82\xac", &back));
}

absl::Status Parsed(const json& description) { return BpeModel::Parse(description).status(); }

TEST(Bpe, RefusesBrokenAndUnsupportedModels) {
  std::mt19937 random(8);
  const json good = RandomModel(random, 10, "ab");
  ASSERT_TRUE(Parsed(good).ok());
  const auto with = [&](const char* key, json value) {
    json changed = good;
    changed[key] = std::move(value);
    return changed;
  };
  EXPECT_EQ(ReasonOf(Parsed(with("type", "Unigram"))), reason::kTokenizerUnsupported);
  EXPECT_EQ(ReasonOf(Parsed(with("byte_fallback", true))), reason::kTokenizerUnsupported);
  EXPECT_EQ(ReasonOf(Parsed(with("dropout", 0.1))), reason::kTokenizerUnsupported);
  EXPECT_EQ(ReasonOf(Parsed(with("end_of_word_suffix", "</w>"))), reason::kTokenizerUnsupported);
  EXPECT_EQ(ReasonOf(Parsed(with("vocab", json::array()))), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Parsed(with("merges", "a b"))), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Parsed(with("merges", json::array({"a b c"})))), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Parsed(with("merges", json::array({"a q"})))), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Parsed(with("merges", json::array({{"a", 3}})))), reason::kTokenizerBroken);
  json twice = good;
  twice["vocab"]["ab-other"] = 7;
  EXPECT_EQ(ReasonOf(Parsed(twice)), reason::kTokenizerBroken);
  json negative = good;
  negative["vocab"]["other"] = -1;
  EXPECT_EQ(ReasonOf(Parsed(negative)), reason::kTokenizerBroken);
  json huge = good;
  huge["vocab"]["other"] = 4000000000u;
  EXPECT_EQ(ReasonOf(Parsed(huge)), reason::kTokenizerBroken);
  json lacking = good;
  lacking["vocab"].erase(SpellBytes("\n"));
  EXPECT_EQ(ReasonOf(Parsed(lacking)), reason::kTokenizerUnsupported);
}

}  // namespace
}  // namespace lectern::engine
