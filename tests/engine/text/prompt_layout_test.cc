#include "engine/text/prompt_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/text/extractor.h"
#include "tests/engine/text/files.h"

namespace lectern::engine {
namespace {

using ::testing::HasSubstr;

const Tokenizer& Bundled() {
  static const std::unique_ptr<Tokenizer> tokenizer =
      *Tokenizer::LoadFile(std::string(LECTERN_SOURCE_DIR) + "/models/default/tokenizer.json");
  return *tokenizer;
}

std::vector<TokenId> IdsOf(std::string_view text) {
  absl::StatusOr<std::vector<TokenId>> ids = Bundled().EncodeIds(text);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *std::move(ids);
}

PromptLayout Layout(const LayoutLimits& limits = {.max_positions = 100000}) {
  absl::StatusOr<PromptLayout> layout = PromptLayout::Create(&Bundled(), limits);
  EXPECT_TRUE(layout.ok()) << layout.status();
  return *std::move(layout);
}

// Documents with their sources.
struct Corpus {
  std::vector<std::string> sources;
  std::vector<std::string> titles;
  std::vector<ExtractedText> texts;

  void Add(std::string title, std::string source) {
    texts.push_back(*ExtractText(source, {}));
    titles.push_back(std::move(title));
    sources.push_back(std::move(source));
  }
  std::vector<LayoutDocument> Documents() const {
    std::vector<LayoutDocument> documents;
    for (size_t i = 0; i < texts.size(); ++i)
      documents.push_back({titles[i], texts[i].text, &texts[i].map});
    return documents;
  }
};

Corpus SmallCorpus() {
  Corpus corpus;
  corpus.Add(
      "kettle.txt",
      "The kettle\n  is made of   copper.\n\nIts lid is tin \xf0\x9f\x98\x80\xf0\x9f\x91\xbb.");
  corpus.Add("odd <q>  name\n", "It spells <bos> and <q> and <end>.");
  corpus.Add("manual", ReadSourceFile("tests/engine/text/manual_page.txt"));
  return corpus;
}

TEST(PromptLayout, IsBosThenDocumentsAndNothingElseIsSpecial) {
  const PromptLayout layout = Layout();
  const Corpus corpus = SmallCorpus();
  const auto documents = corpus.Documents();
  const auto context = layout.LayOut(documents);
  ASSERT_TRUE(context.ok()) << context.status();
  std::vector<TokenId> expected = {layout.bos()};
  for (size_t d = 0; d < documents.size(); ++d) {
    EXPECT_EQ(context->documents[d].begin, static_cast<int64_t>(expected.size()));
    expected.push_back(layout.doc());
    for (const TokenId id : IdsOf(Reflow(corpus.titles[d]).text)) expected.push_back(id);
    expected.push_back(layout.text());
    EXPECT_EQ(context->documents[d].text_begin, static_cast<int64_t>(expected.size()));
    for (const TokenId id : IdsOf(corpus.texts[d].text)) expected.push_back(id);
    EXPECT_EQ(context->documents[d].end, static_cast<int64_t>(expected.size()));
  }
  EXPECT_EQ(context->Ids(), expected);
  for (const LayoutToken& token : context->tokens) {
    const bool mark = token.role != TokenRole::kTitle && token.role != TokenRole::kText;
    EXPECT_EQ(Bundled().IsSpecial(token.id), mark);
  }
}

TEST(PromptLayout, EveryTextTokenKnowsItsBytes) {
  const Corpus corpus = SmallCorpus();
  const auto context = Layout().LayOut(corpus.Documents());
  ASSERT_TRUE(context.ok());
  std::vector<std::string> spelled(corpus.texts.size());
  for (const LayoutToken& token : context->tokens) {
    if (token.role != TokenRole::kText) continue;
    const ExtractedText& text = corpus.texts[token.document];
    EXPECT_THAT(text.text.substr(token.text_begin, token.text_end - token.text_begin),
                HasSubstr(std::string(Bundled().TokenBytes(token.id))));
    EXPECT_EQ(text.map.Map(token.text_begin, token.text_end),
              (SourceRange{token.source_begin, token.source_end}));
    spelled[token.document] += Bundled().TokenBytes(token.id);
  }
  for (size_t d = 0; d < spelled.size(); ++d) EXPECT_EQ(spelled[d], corpus.texts[d].text);
}

TEST(PromptLayout, PartsSurviveStorageAndAnswerLikeTheWhole) {
  const Corpus corpus = SmallCorpus();
  const auto context = Layout().LayOut(corpus.Documents());
  ASSERT_TRUE(context.ok());
  const LayoutPart whole = context->Part(0, 1 << 20, 128);
  ASSERT_EQ(whole.end(), static_cast<int64_t>(context->tokens.size()));
  for (const int64_t blocks : {1, 3}) {
    std::vector<LayoutPart> parts;
    size_t bytes = 0;
    for (int64_t b = 0; b * 128 < whole.end(); b += blocks) {
      const std::string stored = context->Part(b, blocks, 128).Serialize();
      bytes += stored.size();
      const absl::StatusOr<LayoutPart> part = LayoutPart::Parse(stored);
      ASSERT_TRUE(part.ok()) << part.status();
      parts.push_back(*part);
    }
    EXPECT_LT(bytes, 5 * context->tokens.size());
    std::mt19937 random(blocks);
    for (int round = 0; round < 300; ++round) {
      const int64_t begin = random() % whole.end();
      const int64_t end = begin + random() % 400;
      std::vector<TextSpan> pieces;
      for (const LayoutPart& part : parts) {
        for (const TextSpan& span : part.Spans(begin, end)) pieces.push_back(span);
      }
      ASSERT_EQ(JoinSpans(pieces), whole.Spans(begin, end));
    }
  }
}

TEST(PromptLayout, SpansEndAtDocumentBorders) {
  const Corpus corpus = SmallCorpus();
  const auto context = Layout().LayOut(corpus.Documents());
  ASSERT_TRUE(context.ok());
  const LayoutPart whole = context->Part(0, 1 << 20, 128);
  const auto spans = whole.Spans(0, context->documents[1].end);
  ASSERT_EQ(spans.size(), 2u);
  for (uint32_t d = 0; d < 2; ++d) {
    EXPECT_EQ(spans[d].document, d);
    EXPECT_EQ(spans[d].token_begin, context->documents[d].text_begin);
    EXPECT_EQ(spans[d].token_end, context->documents[d].end);
    EXPECT_EQ(spans[d].text_begin, 0u);
    EXPECT_EQ(spans[d].text_end, corpus.texts[d].text.size());
  }
  EXPECT_TRUE(whole.Spans(0, context->documents[0].text_begin).empty());
  EXPECT_TRUE(whole.Spans(-5, 0).empty());
  // A quote is bytes of the source.
  const size_t at = corpus.texts[0].text.find("is made of copper");
  int64_t first = -1, last = -1;
  for (int64_t p = spans[0].token_begin; p < spans[0].token_end; ++p) {
    if (whole.at(p).text_end > at && first < 0) first = p;
    if (whole.at(p).text_begin < at + 17) last = p;
  }
  const auto quote = whole.Spans(first, last + 1);
  ASSERT_EQ(quote.size(), 1u);
  EXPECT_THAT(
      corpus.sources[0].substr(quote[0].source_begin, quote[0].source_end - quote[0].source_begin),
      HasSubstr("is made of   copper"));
}

TEST(PromptLayout, DamagedPartsAreErrors) {
  const Corpus corpus = SmallCorpus();
  const auto context = Layout().LayOut(corpus.Documents());
  ASSERT_TRUE(context.ok());
  const std::string stored = context->Part(0, 2, 128).Serialize();
  for (size_t size = 0; size < stored.size(); ++size) {
    const absl::Status status = LayoutPart::Parse(stored.substr(0, size)).status();
    ASSERT_EQ(ReasonOf(status), reason::kStoredBytesCorrupt) << size;
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(ReasonOf(LayoutPart::Parse(stored + "x").status()), reason::kStoredBytesCorrupt);
  std::string newer = stored;
  newer[0] = 99;
  EXPECT_EQ(ReasonOf(LayoutPart::Parse(newer).status()), reason::kStoredFormatNewer);
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = stored;
    for (int i = 0; i < 3; ++i)
      damaged[1 + random() % (damaged.size() - 1)] = static_cast<char>(random());
    const absl::StatusOr<LayoutPart> part = LayoutPart::Parse(damaged);
    if (part.ok()) part->Spans(part->begin(), part->end());
  }
}

TEST(PromptLayout, LimitsAreErrorsWithBothCounts) {
  const Corpus corpus = SmallCorpus();
  const auto documents = corpus.Documents();
  const auto tokens = static_cast<int64_t>(Layout().LayOut(documents)->tokens.size());
  ASSERT_TRUE(Layout({.max_positions = tokens + 100, .reserve = 100}).LayOut(documents).ok());
  const absl::Status over =
      Layout({.max_positions = tokens + 99, .reserve = 100}).LayOut(documents).status();
  EXPECT_EQ(ReasonOf(over), reason::kContextTooLong);
  EXPECT_EQ(MetadataOf(over).at("tokens"), std::to_string(tokens));
  EXPECT_EQ(MetadataOf(over).at("limit"), std::to_string(tokens - 1));
  EXPECT_THAT(std::string(over.message()), HasSubstr(std::to_string(tokens)));

  const PromptLayout small =
      Layout({.max_positions = 1000, .reserve = 100, .max_question_tokens = 6});
  const auto question = small.Question("What is it made of?");
  EXPECT_EQ(ReasonOf(question.status()), reason::kQuestionTooLong);
  const auto count = static_cast<int64_t>(IdsOf("What is it made of?").size()) + 2;
  EXPECT_EQ(MetadataOf(question.status()).at("tokens"), std::to_string(count));
  EXPECT_EQ(MetadataOf(question.status()).at("limit"), "6");
}

TEST(PromptLayout, AHopelessCorpusIsRefusedByItsBytes) {
  const std::string text(size_t{64} << 20, 'x');  // one word, which no tokenizer would get through
  const SourceMap map = SourceMap::Identity(text.size());
  const LayoutDocument document = {"x", text, &map};
  const absl::Status status = Layout().LayOut({&document, 1}).status();
  EXPECT_EQ(ReasonOf(status), reason::kContextTooLong);
  EXPECT_THAT(std::string(status.message()), HasSubstr("at least"));
}

TEST(PromptLayout, QuestionsAreFramedAndNeverEmpty) {
  const PromptLayout layout = Layout();
  const auto ids = layout.Question("Why <end>?");
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->front(), layout.question());
  EXPECT_EQ(ids->back(), layout.answer());
  const std::vector<TokenId> inner(ids->begin() + 1, ids->end() - 1);
  EXPECT_EQ(inner, IdsOf("Why <end>?"));
  EXPECT_THAT(inner, testing::Not(testing::Contains(layout.end())));
  EXPECT_EQ(ReasonOf(layout.Question("").status()), reason::kQuestionEmpty);
  EXPECT_EQ(ReasonOf(layout.Question(" \n\t").status()), reason::kQuestionEmpty);
  EXPECT_EQ(ReasonOf(layout.Question("\xff").status()), reason::kTextNotUtf8);
  EXPECT_EQ(PromptLayout::TrimAnswer(" leather"), "leather");
  EXPECT_EQ(PromptLayout::TrimAnswer("  two"), " two");
}

TEST(PromptLayout, NeedsItsSpecialTokensAndRoom) {
  const auto other = Tokenizer::LoadFile(std::string(LECTERN_SOURCE_DIR) +
                                         "/tests/fixtures/tokenizers/gpt2.tokenizer.json");
  ASSERT_TRUE(other.ok());
  const absl::Status lacking =
      PromptLayout::Create(other->get(), {.max_positions = 100000}).status();
  EXPECT_EQ(ReasonOf(lacking), reason::kModelTokenizerMismatch);
  EXPECT_THAT(std::string(lacking.message()), HasSubstr("<pad>"));
  EXPECT_EQ(ReasonOf(PromptLayout::Create(&Bundled(), {.max_positions = 8192}).status()),
            reason::kModelTokenizerMismatch);
}

TEST(PromptLayout, AnEmptyCorpusIsBosAlone) {
  const auto context = Layout().LayOut({});
  ASSERT_TRUE(context.ok());
  EXPECT_EQ(context->Ids(), std::vector<TokenId>{Layout().bos()});
  EXPECT_TRUE(context->Part(0, 1, 128).Spans(0, 128).empty());
}

}  // namespace
}  // namespace lectern::engine
