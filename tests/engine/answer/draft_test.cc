#include "engine/answer/draft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lectern::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr TokenId kMark = 3;
constexpr size_t kMost = 4;

float Nothing(int64_t) { return 0; }

DraftPassages Passages() {
  return DraftPassages([](TokenId id) { return id == kMark; });
}

TEST(DraftPassagesTest, GoesOnWhereMostOfTheLastTokensStand) {
  DraftPassages passages = Passages();
  passages.Add(0, {20, 30, 41, 42});
  passages.Add(500, {10, 20, 30, 51, 52, 53, 54, 55});
  EXPECT_THAT(passages.Next(std::vector<TokenId>{9, 10, 20, 30}, kMost, Nothing),
              ElementsAre(51, 52, 53, 54));
  EXPECT_THAT(passages.Next(std::vector<TokenId>{9, 20, 30}, kMost, Nothing), ElementsAre(41, 42))
      << "the first of equals";
  EXPECT_THAT(passages.Next(std::vector<TokenId>{30, 20}, 1, Nothing), ElementsAre(30));
  EXPECT_THAT(passages.Next(std::vector<TokenId>{30, 99}, kMost, Nothing), IsEmpty());
  EXPECT_THAT(passages.Next(std::vector<TokenId>{99, 42}, kMost, Nothing), IsEmpty())
      << "nothing stands behind it";
}

TEST(DraftPassagesTest, OfEqualPlacesTheOneThatAttentionWeighsMost) {
  DraftPassages passages = Passages();
  passages.Add(0, {20, 31, 20, 32, 33});
  passages.Add(256, {20, 41, 42});
  const auto at = [](int64_t heavy) {
    return [heavy](int64_t position) { return position == heavy ? 1.0f : 0.0f; };
  };
  const std::vector<TokenId> said = {7, 20};
  EXPECT_THAT(passages.Next(said, 2, at(0)), ElementsAre(31, 20));
  EXPECT_THAT(passages.Next(said, 2, at(3)), ElementsAre(32, 33));
  EXPECT_THAT(passages.Next(said, 2, at(257)), ElementsAre(41, 42));
  // More tokens that agree come before any weight.
  EXPECT_THAT(passages.Next(std::vector<TokenId>{31, 20}, 2, at(257)), ElementsAre(32, 33));
}

TEST(DraftPassagesTest, NeverHoldsAMark) {
  DraftPassages passages = Passages();
  passages.Add(0, {10, 20, 30, kMark, 40});
  EXPECT_THAT(passages.Next(std::vector<TokenId>{10}, kMost, Nothing), ElementsAre(20, 30));
  EXPECT_THAT(passages.Next(std::vector<TokenId>{30}, kMost, Nothing), IsEmpty());
}

TEST(DraftPassagesTest, TheAnswersOwnWordsCountFromTwoTokensOn) {
  DraftPassages passages = Passages();
  EXPECT_THAT(passages.Next(std::vector<TokenId>{10, 20, 30, 20}, kMost, Nothing), IsEmpty());
  EXPECT_THAT(passages.Next(std::vector<TokenId>{10, 20, 30, 10, 20}, kMost, Nothing),
              ElementsAre(30, 10, 20));
  EXPECT_THAT(passages.Next(std::vector<TokenId>{10, 20, 30, 10, 20, 40, 10, 20}, 2, Nothing),
              ElementsAre(40, 10))
      << "the latest";
  EXPECT_THAT(passages.Next(std::vector<TokenId>{10}, kMost, Nothing), IsEmpty());
  // A passage that has as much is preferred.
  passages.Add(0, {10, 20, 50});
  EXPECT_THAT(passages.Next(std::vector<TokenId>{10, 20, 30, 10, 20}, kMost, Nothing),
              ElementsAre(50));
}

TEST(DraftLengthTest, GrowsWithSuccessAndShrinksToNothing) {
  DraftLength length;
  const int32_t first = length.tokens();
  ASSERT_GT(first, 1);
  length.Drafted(2, 2);
  EXPECT_EQ(length.tokens(), std::min(2 * first, kLongestDraft));
  for (int i = 0; i < 10; ++i) length.Drafted(length.tokens(), length.tokens());
  EXPECT_EQ(length.tokens(), kLongestDraft);
  length.Drafted(kLongestDraft, 3);
  EXPECT_EQ(length.tokens(), 4);
  length.Drafted(4, 0);
  EXPECT_EQ(length.tokens(), 2);
  length.Drafted(2, 0);
  EXPECT_EQ(length.tokens(), 1);
  length.Drafted(1, 0);
  EXPECT_EQ(length.tokens(), 0);
  int32_t paused = 0;
  for (; length.tokens() == 0 && paused < 1000; ++paused) length.NotDrafted();
  EXPECT_GT(paused, 1);
  EXPECT_EQ(length.tokens(), 1) << "it tries again, with little";
  length.NotDrafted();
  EXPECT_EQ(length.tokens(), 1);
}

}  // namespace
}  // namespace lectern::engine
