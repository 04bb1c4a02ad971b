#include "engine/text/utf8.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace lectern::engine {
namespace {

constexpr size_t kNone = std::string_view::npos;

TEST(Utf8, EveryScalarValueRoundTrips) {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(FirstInvalidUtf8(text), kNone) << static_cast<uint32_t>(c);
    const CodePoint point = DecodeUtf8(text, 0);
    ASSERT_EQ(point.value, c);
    ASSERT_EQ(point.length, text.size());
  }
}

TEST(Utf8, NamesTheFirstBadByte) {
  const std::string ok(20, 'a');
  const std::pair<std::string, size_t> cases[] = {
      {"", kNone},
      {ok, kNone},
      {ok + "\x80", 20},              // continuation alone
      {ok + "\xc0\x80", 20},          // overlong NUL
      {ok + "\xc1\xbf", 20},          // overlong
      {ok + "\xe0\x80\xaf", 20},      // overlong
      {ok + "\xed\xa0\x80", 20},      // surrogate
      {ok + "\xf4\x90\x80\x80", 20},  // over U+10FFFF
      {ok + "\xf5\x80\x80\x80", 20},  // no such lead
      {ok + "\xe2\x82", 20},          // cut off
      {ok + "\xe2\x82\x28", 20},      // third byte wrong
      {ok + "\xe2\x82\xac", kNone},
      {ok + "\xff" + ok, 20},
  };
  for (const auto& [text, offset] : cases)
    EXPECT_EQ(FirstInvalidUtf8(text), offset) << testing::PrintToString(text);
}

TEST(Utf8, CompletePrefixWaitsOnlyForWhatCanStillBecomeACharacter) {
  EXPECT_EQ(CompleteUtf8Prefix("ab\xe2\x82"), 2u);
  EXPECT_EQ(CompleteUtf8Prefix("ab\xf0\x9f\x98"), 2u);
  EXPECT_EQ(CompleteUtf8Prefix("ab\xe2\x82\xac"), 5u);
  EXPECT_EQ(CompleteUtf8Prefix("\xc3"), 0u);
  EXPECT_EQ(CompleteUtf8Prefix("ab\xff"), 3u);      // will never be a character
  EXPECT_EQ(CompleteUtf8Prefix("ab\xed\xa0"), 4u);  // nor will a surrogate
  EXPECT_EQ(CompleteUtf8Prefix(""), 0u);
}

TEST(Utf8, ReplacementIsValidAndKeepsGoodText) {
  EXPECT_EQ(ReplaceInvalidUtf8("a\xff"
                               "b"),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(ReplaceInvalidUtf8("\xe2\x82x"), "\xef\xbf\xbdx");
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (size_t i = random() % 24; i > 0; --i)
      bytes.push_back(static_cast<char>(random() % 3 ? 0x80 + random() % 128 : random() % 128));
    const std::string replaced = ReplaceInvalidUtf8(bytes);
    ASSERT_EQ(FirstInvalidUtf8(replaced), kNone);
    if (FirstInvalidUtf8(bytes) == kNone) {
      ASSERT_EQ(replaced, bytes);
    }
  }
}

}  // namespace
}  // namespace lectern::engine
