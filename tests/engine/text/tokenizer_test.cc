#include "engine/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/text/utf8.h"
#include "tests/engine/text/files.h"

namespace lectern::engine {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> LoadFrom(const std::string& path) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::LoadFile(std::string(LECTERN_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

const Tokenizer& Bundled() {
  static const std::unique_ptr<Tokenizer> tokenizer = LoadFrom("models/default/tokenizer.json");
  return *tokenizer;
}

json Base() { return ReadSourceJson("tests/engine/text/component_cases.json")["base"]; }

std::unique_ptr<Tokenizer> With(const json& changes) {
  json description = Base();
  description.update(changes);
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(description.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

absl::Status Refused(const json& changes) {
  json description = Base();
  description.update(changes);
  return Tokenizer::Load(description.dump()).status();
}

std::string RandomUnicode(std::mt19937& random) {
  static const char* kPieces[] = {" ",
                                  "\n",
                                  "the ",
                                  "word",
                                  "don't",
                                  "42",
                                  "<q>",
                                  "<bos>",
                                  "\xc3\xa9",
                                  "e\xcc\x81",
                                  "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7",
                                  "\xe4\xb8\x96",
                                  "\t",
                                  "...",
                                  "def f(x):\n    return x\n",
                                  "\xe2\x80\xa8",
                                  "\xcc\x81"};
  std::string text;
  for (size_t i = random() % 40; i > 0; --i) {
    if (random() % 4 != 0) {
      text += kPieces[random() % std::size(kPieces)];
      continue;
    }
    char32_t c = random() % (random() % 2 == 0 ? 0x3000 : 0x110000);
    AppendUtf8(c >= 0xd800 && c <= 0xdfff ? U' ' : c, &text);
  }
  return text;
}

// What the header promises of ranges, for a tokenizer without normaliser.
void CheckRanges(const Tokenizer& tokenizer, const std::string& text,
                 const std::vector<Token>& tokens) {
  std::string spelled;
  uint32_t covered = 0;
  uint32_t previous_begin = 0;
  for (const Token& token : tokens) {
    ASSERT_LE(previous_begin, token.begin);
    ASSERT_LE(token.begin, covered);  // no gap
    ASSERT_LT(token.begin, token.end);
    ASSERT_LE(token.end, text.size());
    ASSERT_FALSE(IsUtf8Continuation(text[token.begin]));
    ASSERT_TRUE(token.end == text.size() || !IsUtf8Continuation(text[token.end]));
    // The token's bytes are in its range.
    ASSERT_THAT(text.substr(token.begin, token.end - token.begin),
                HasSubstr(std::string(tokenizer.TokenBytes(token.id))));
    covered = std::max(covered, token.end);
    previous_begin = token.begin;
    spelled += tokenizer.TokenBytes(token.id);
  }
  ASSERT_EQ(covered, text.size());
  ASSERT_EQ(spelled, text);
}

TEST(Tokenizer, RoundTripsEveryTextWithExactRanges) {
  const std::unique_ptr<Tokenizer> digits =
      With({{"pre_tokenizer",
             {{"type", "Sequence"},
              {"pretokenizers",
               {{{"type", "Digits"}, {"individual_digits", true}},
                {{"type", "Punctuation"}, {"behavior", "MergedWithNext"}},
                {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}}}});
  for (const Tokenizer* tokenizer : {&Bundled(), static_cast<const Tokenizer*>(digits.get())}) {
    std::mt19937 random(42);
    for (int round = 0; round < 2000; ++round) {
      const std::string text = RandomUnicode(random);
      const auto tokens = tokenizer->Encode(text);
      ASSERT_TRUE(tokens.ok()) << tokens.status();
      CheckRanges(*tokenizer, text, *tokens);
      const auto ids = tokenizer->EncodeIds(text);
      ASSERT_TRUE(ids.ok());
      ASSERT_EQ(tokenizer->Decode(*ids), text);
      for (const TokenId id : *ids) ASSERT_FALSE(tokenizer->IsSpecial(id)) << text;
    }
  }
}

TEST(Tokenizer, SpecialTokensComeFromTextOnlyWhenAsked) {
  const TokenId q = *Bundled().FindToken("<q>");
  EXPECT_TRUE(Bundled().IsSpecial(q));
  const auto plain = Bundled().EncodeIds("a <q> b");
  const auto parsed = Bundled().Encode("a <q> b", {.parse_special = true});
  ASSERT_TRUE(plain.ok() && parsed.ok());
  EXPECT_THAT(*plain, testing::Not(testing::Contains(q)));
  EXPECT_THAT(*parsed, testing::Contains(Token{q, 2, 5}));
  EXPECT_EQ(Bundled().Decode(*plain), "a <q> b");
  const std::vector<TokenId> ids = {q, (*plain)[0]};
  EXPECT_EQ(Bundled().Decode(ids, /*skip_special=*/true), "a");
}

TEST(Tokenizer, WholeWordMatchesCannotMakeASpecialToken) {
  json model = Base()["model"];
  model["ignore_merges"] = true;
  model["vocab"]["word!"] = 278;
  const json special = {{"id", 278}, {"content", "word!"}, {"special", true}};
  const auto tokenizer = With({{"model", model}, {"added_tokens", {special}}});
  const auto plain = tokenizer->EncodeIds("word!");
  const auto parsed = tokenizer->EncodeIds("word!", {.parse_special = true});
  ASSERT_TRUE(plain.ok() && parsed.ok());
  EXPECT_EQ(plain->size(), 4u);  // w, or, d, !
  EXPECT_EQ(*parsed, std::vector<TokenId>{278});
}

TEST(Tokenizer, RangesUnderANormaliser) {
  const auto tokenizer = With({{"normalizer", {{"type", "NFC"}}}});
  const std::string text =
      "caf"
      "e\xcc\x81"
      " x";  // e and an acute accent: one character in NFC
  const auto tokens = tokenizer->Encode(text);
  ASSERT_TRUE(tokens.ok());
  EXPECT_EQ(tokens->front(),
            (Token{tokens->front().id, 0, 6}));  // the merged "café" has its six bytes
  EXPECT_EQ(tokens->back().end, text.size());

  const auto prefixed =
      With({{"pre_tokenizer",
             {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}}}});
  const auto words = prefixed->Encode("world we");
  ASSERT_TRUE(words.ok());
  EXPECT_EQ(words->front().begin, 0u);
  EXPECT_EQ(words->front().end, 1u);  // " w", of which the space was put in
  EXPECT_EQ(words->back().end, 8u);

  const auto lower = With({{"normalizer", {{"type", "Lowercase"}}}});
  const auto dotted = lower->Encode("\xc4\xb0x");  // one character whose lower case is two
  ASSERT_TRUE(dotted.ok());
  for (size_t i = 0; i + 1 < dotted->size(); ++i) {
    EXPECT_EQ((*dotted)[i].begin, 0u);
    EXPECT_EQ((*dotted)[i].end, 2u);
  }
}

TEST(Tokenizer, RefusesBadTextWithItsOffset) {
  const absl::Status bad = Bundled().Encode("ab\xff").status();
  EXPECT_EQ(ReasonOf(bad), reason::kTextNotUtf8);
  EXPECT_EQ(MetadataOf(bad).at("offset"), "2");
  const auto nfd = With({{"normalizer", {{"type", "NFD"}}}});
  std::string marks = "a";
  for (int i = 0; i < 5000; ++i) marks += "\xcc\x81";
  EXPECT_EQ(ReasonOf(nfd->Encode(marks).status()), reason::kWordTooLong);
}

TEST(Tokenizer, LongWordsAndLongLines) {
  const std::string word(kMaxWordBytes, 'x');
  const auto tokens = Bundled().Encode(word);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->back().end, word.size());
  const absl::Status longer = Bundled().Encode("some words, then " + word + "xxxxxxxxx").status();
  EXPECT_EQ(ReasonOf(longer), reason::kWordTooLong);
  EXPECT_THAT(std::string(longer.message()), HasSubstr("at byte 16"));
  std::string line;
  while (line.size() < (4u << 20)) line += "a line of many words without any break at all, ";
  const auto all = Bundled().EncodeIds(line);
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(Bundled().Decode(*all), line);
}

TEST(Tokenizer, ThreadsAgree) {
  const std::string text = ReadSourceFile("tests/fixtures/tokenizers/default.cases.json");
  const auto expected = Bundled().Encode(text);
  ASSERT_TRUE(expected.ok());
  std::vector<std::vector<Token>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = *Bundled().Encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, *expected);
}

TEST(Tokenizer, RefusesComponentsByName) {
  const std::pair<json, const char*> cases[] = {
      {{{"normalizer", {{"type", "BertNormalizer"}}}}, "BertNormalizer"},
      {{{"normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Precompiled"}}}}}}},
       "Precompiled"},
      {{{"pre_tokenizer", {{"type", "Metaspace"}}}}, "Metaspace"},
      {{{"pre_tokenizer", nullptr}}, "ByteLevel"},
      {{{"pre_tokenizer", {{"type", "WhitespaceSplit"}}}}, "ByteLevel"},
      {{{"decoder", {{"type", "Metaspace"}}}}, "Metaspace"},
      {{{"decoder", nullptr}}, "ByteLevel"},
      {{{"model", {{"type", "Unigram"}}}}, "Unigram"},
  };
  for (const auto& [changes, name] : cases) {
    const absl::Status status = Refused(changes);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_EQ(ReasonOf(status), reason::kTokenizerUnsupported) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

json SplitBy(const std::string& regex) {
  return {{"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"},
               {"pattern", {{"Regex", regex}}},
               {"behavior", "Isolated"},
               {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}}};
}

TEST(Tokenizer, RefusesExpressionsThatMeanAnotherThingElsewhere) {
  for (const char* regex : {"[a&&b]", "[a[bc]]", "a{1,3}+", "[\\S]", "a\\Kb"}) {
    EXPECT_EQ(ReasonOf(Refused(SplitBy(regex))), reason::kTokenizerUnsupported) << regex;
  }
  EXPECT_EQ(ReasonOf(Refused(SplitBy("(a"))), reason::kTokenizerBroken);
  EXPECT_TRUE(Refused(SplitBy("[]a]|a++|a?+|x{2}")).ok());
}

TEST(Tokenizer, RefusesBrokenFiles) {
  const std::string good = Base().dump();
  EXPECT_EQ(ReasonOf(Tokenizer::Load("").status()), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Tokenizer::Load("[]").status()), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Tokenizer::Load(good.substr(0, good.size() / 2)).status()),
            reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Tokenizer::Load(std::string(200000, '[')).status()), reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Refused({{"added_tokens", {{{"id", 5}, {"content", "<new>"}}}}})),
            reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Refused({{"added_tokens", {{{"id", -5}, {"content", "<new>"}}}}})),
            reason::kTokenizerBroken);
  EXPECT_EQ(ReasonOf(Refused({{"added_tokens", {{{"id", 900}, {"content", "Hello"}}}}})),
            reason::kTokenizerBroken);
  // A special token that merging text would make.
  EXPECT_EQ(
      ReasonOf(Refused({{"added_tokens", {{{"id", 256}, {"content", "he"}, {"special", true}}}}})),
      reason::kTokenizerBroken);
  json deep = {{"type", "Digits"}};
  for (int i = 0; i < 50; ++i) deep = {{"type", "Sequence"}, {"pretokenizers", {deep}}};
  EXPECT_EQ(ReasonOf(Refused({{"pre_tokenizer", deep}})), reason::kTokenizerUnsupported);
  const absl::Status missing = Tokenizer::LoadFile("/nonexistent/tokenizer.json").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(missing), reason::kModelFileUnreadable);
}

TEST(StreamingDecoder, EmitsOnlyWholeCharacters) {
  std::mt19937 random(9);
  for (int round = 0; round < 500; ++round) {
    const std::string text = RandomUnicode(random);
    const auto ids = Bundled().EncodeIds(text);
    ASSERT_TRUE(ids.ok());
    StreamingDecoder decoder(&Bundled());
    std::string streamed;
    for (const TokenId id : *ids) {
      const std::string delta = decoder.Push(id);
      ASSERT_EQ(FirstInvalidUtf8(delta), std::string_view::npos);
      streamed += delta;
    }
    streamed += decoder.Finish();
    ASSERT_EQ(streamed, text);
  }
}

TEST(StreamingDecoder, BrokenSequencesBecomeReplacements) {
  const auto byte_token = [](char byte) {
    for (TokenId id = 0; id < Bundled().vocab_size(); ++id) {
      if (Bundled().TokenBytes(id) == std::string(1, byte) && !Bundled().IsSpecial(id)) return id;
    }
    return TokenId{-1};
  };
  StreamingDecoder decoder(&Bundled());
  EXPECT_EQ(decoder.Push(byte_token('\xe2')), "");
  EXPECT_EQ(decoder.Push(*Bundled().FindToken("<end>")), "");
  EXPECT_EQ(decoder.Push(byte_token('x')), "\xef\xbf\xbdx");
  EXPECT_EQ(decoder.Push(byte_token('\xf0')), "");
  EXPECT_EQ(decoder.Finish(), "\xef\xbf\xbd");
  EXPECT_EQ(decoder.Finish(), "");
  EXPECT_EQ(decoder.Push(-7), "");
  EXPECT_EQ(decoder.Push(1 << 30), "");
}

}  // namespace
}  // namespace lectern::engine
