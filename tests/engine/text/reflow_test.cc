#include <gtest/gtest.h>

#include <random>
#include <string>

#include "engine/text/extractor.h"
#include "engine/text/utf8.h"
#include "tests/engine/text/files.h"

namespace lectern::engine {
namespace {

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// The cases are written by the Python implementation that the model is trained with
// (training/reflow.py).
TEST(Reflow, AgreesWithTrainingInTextAndInEveryOffset) {
  const nlohmann::json fixture = ReadSourceJson("tests/fixtures/reflow.json");
  ASSERT_GT(fixture["cases"].size(), 50u);
  for (const nlohmann::json& one : fixture["cases"]) {
    const std::string bytes = FromHex(one["bytes_hex"]);
    const ReflowedText reflowed = Reflow(bytes);
    ASSERT_EQ(reflowed.text, one["text"].get<std::string>()) << one["bytes_hex"];
    ASSERT_EQ(reflowed.map.text_size(), reflowed.text.size());
    for (const nlohmann::json& span : one["spans"]) {
      const uint64_t text = span[0], text_length = span[1], source = span[2],
                     source_length = span[3];
      ASSERT_EQ(reflowed.map.Map(text, text + text_length),
                (SourceRange{source, source + source_length}))
          << one["bytes_hex"] << " at " << text;
      for (uint64_t i = 0; text_length == source_length && i < text_length; ++i) {
        ASSERT_EQ(reflowed.map.Map(text + i, text + i + 1),
                  (SourceRange{source + i, source + i + 1}));
      }
    }
  }
}

std::string RandomText(std::mt19937& random) {
  static const std::string kPieces[] = {" ",
                                        "\n",
                                        "\r\n",
                                        "\r",
                                        "\t",
                                        "\f",
                                        "\v",
                                        "\xc2\xa0",
                                        "\x01",
                                        "\xc2\x85",
                                        "\xc2\xa1",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "word",
                                        "a",
                                        ".",
                                        "\x7f",
                                        "\xf0\x9f\x98\x80"};
  std::string text;
  for (size_t i = random() % 40; i > 0; --i) text += kPieces[random() % std::size(kPieces)];
  return text;
}

TEST(Reflow, KeepsTheWordsAndLeavesNoRuns) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::string source = RandomText(random);
    const ReflowedText reflowed = Reflow(source);
    ASSERT_EQ(FirstInvalidUtf8(reflowed.text), std::string_view::npos);
    for (const char* run : {"  ", "\n\n", " \n", "\n ", "\r", "\t", "\xc2\xa0", "\x01"}) {
      ASSERT_EQ(reflowed.text.find(run), std::string::npos) << testing::PrintToString(source);
    }
    uint64_t previous_end = 0;
    for (uint64_t i = 0; i < reflowed.text.size(); ++i) {
      const SourceRange range = reflowed.map.Map(i, i + 1);
      ASSERT_GE(range.begin, previous_end);
      previous_end = range.end;
      if (reflowed.text[i] != ' ' && reflowed.text[i] != '\n') {
        ASSERT_EQ(source.substr(range.begin, range.end - range.begin),
                  std::string(1, reflowed.text[i]));
      }
    }
  }
}

TEST(Reflow, OneLongLineMapsInLittleMemory) {
  std::string line;
  while (line.size() < (8u << 20)) line += "some words and then some more words ";
  const ReflowedText reflowed = Reflow(line);
  EXPECT_EQ(reflowed.text.size(), line.size() - 1);
  EXPECT_LT(reflowed.map.memory_bytes(), 1000u);
}

}  // namespace
}  // namespace lectern::engine
