#include "engine/text/prompt_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
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

// The layout of what is in one context.
absl::StatusOr<ContextLayout> LayOutOne(const PromptLayout& layout,
                                        std::span<const LayoutDocument> documents) {
  absl::StatusOr<std::vector<ContextLayout>> contexts = layout.LayOut(documents);
  if (!contexts.ok()) return contexts.status();
  EXPECT_EQ(contexts->size(), 1u);
  return contexts->front();
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
  const auto context = LayOutOne(layout, documents);
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
  const auto context = LayOutOne(Layout(), corpus.Documents());
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
  const auto context = LayOutOne(Layout(), corpus.Documents());
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
  const auto context = LayOutOne(Layout(), corpus.Documents());
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
  const auto context = LayOutOne(Layout(), corpus.Documents());
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

// The text of each document as its tokens in all contexts spell it, in order.
std::vector<std::string> Spelled(const std::vector<ContextLayout>& contexts, size_t documents) {
  std::vector<std::string> spelled(documents);
  for (const ContextLayout& context : contexts) {
    for (const LayoutToken& token : context.tokens) {
      if (token.role == TokenRole::kText) spelled[token.document] += Bundled().TokenBytes(token.id);
    }
  }
  return spelled;
}

TEST(PromptLayout, WhatDoesNotFitBeginsTheNextContext) {
  const Corpus corpus = SmallCorpus();
  const auto documents = corpus.Documents();
  const auto whole = LayOutOne(Layout(), documents);
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto size = static_cast<int64_t>(whole->tokens.size());
  const int64_t last = whole->documents[2].end - whole->documents[2].begin;
  // One position more or fewer decides whether the last document, the longest, is behind the
  // others.
  for (const int64_t limit : {size, size - 1}) {
    const auto contexts = Layout({.max_positions = limit + 100, .reserve = 100}).LayOut(documents);
    ASSERT_TRUE(contexts.ok()) << contexts.status();
    ASSERT_EQ(contexts->size(), limit == size ? 1u : 2u);
    if (limit == size) continue;
    EXPECT_EQ((*contexts)[0].documents.size(), 2u);
    ASSERT_EQ((*contexts)[1].documents.size(), 1u);
    EXPECT_EQ((*contexts)[1].documents[0].document, 2u);
    EXPECT_EQ((*contexts)[1].documents[0].begin, 1);
    EXPECT_EQ((*contexts)[1].tokens.size(), static_cast<size_t>(last + 1));
    EXPECT_EQ((*contexts)[1].tokens[0].id, Layout().bos());
  }
  // The limit that is asked for counts if it is below the model's.
  EXPECT_EQ(Layout({.max_positions = 100000, .context_tokens = size}).LayOut(documents)->size(),
            1u);
  EXPECT_EQ(Layout({.max_positions = 100000, .context_tokens = size - 1}).LayOut(documents)->size(),
            2u);
}

TEST(PromptLayout, OnlyADocumentLargerThanAContextIsCutAndNothingOfItIsLost) {
  const Corpus corpus = SmallCorpus();
  const auto documents = corpus.Documents();
  const PromptLayout layout = Layout({.max_positions = 100000, .context_tokens = 300});
  const auto contexts = layout.LayOut(documents);
  ASSERT_TRUE(contexts.ok()) << contexts.status();
  ASSERT_GT(contexts->size(), 3u);
  std::vector<int64_t> sizes;
  size_t between_lines = 0;
  for (size_t i = 0; i < contexts->size(); ++i) {
    const ContextLayout& context = (*contexts)[i];
    sizes.push_back(static_cast<int64_t>(context.tokens.size()));
    EXPECT_LE(sizes.back(), 300);
    EXPECT_EQ(context.tokens[0].id, layout.bos());
    EXPECT_EQ(context.documents.size(), i == 0 ? 2u : 1u) << "a document that is cut begins one";
    const DocumentTokens& place = context.documents.back();
    EXPECT_EQ(context.tokens[place.begin].id, layout.doc());
    EXPECT_EQ(context.tokens[place.text_begin - 1].id, layout.text());
    EXPECT_EQ(place.end, sizes.back());
    if (i > 0) {
      EXPECT_EQ(place.document, 2u);
      EXPECT_EQ(context.tokens[place.begin + 1].role, TokenRole::kTitle)
          << "each part has the title";
    }
    if (i < 2) continue;
    // Not in the middle of a word.
    const std::string& text = corpus.texts[2].text;
    const uint32_t cut = context.tokens[place.text_begin].text_begin;
    EXPECT_TRUE(std::isspace(static_cast<unsigned char>(text[cut])) ||
                std::isspace(static_cast<unsigned char>(text[cut - 1])))
        << text.substr(cut - 10, 20);
    between_lines += text[cut - 1] == '\n';
  }
  EXPECT_GT(between_lines, 0u);
  const std::vector<std::string> spelled = Spelled(*contexts, documents.size());
  for (size_t d = 0; d < documents.size(); ++d) EXPECT_EQ(spelled[d], corpus.texts[d].text);
  // Every token has the bytes that it has where nothing is cut.
  const auto whole = LayOutOne(Layout(), documents);
  std::vector<LayoutToken> parts;
  for (const ContextLayout& context : *contexts) {
    for (const LayoutToken& token : context.tokens) {
      if (token.role == TokenRole::kText) parts.push_back(token);
    }
  }
  std::vector<LayoutToken> all;
  for (const LayoutToken& token : whole->tokens) {
    if (token.role == TokenRole::kText) all.push_back(token);
  }
  EXPECT_EQ(parts, all);
  // Known sizes give the same contexts under any limit.
  for (const int64_t limit : {int64_t{256}, int64_t{0}}) {
    const auto again =
        Layout({.max_positions = 100000, .context_tokens = limit}).LayOut(documents, sizes);
    ASSERT_TRUE(again.ok()) << again.status();
    ASSERT_EQ(again->size(), contexts->size());
    for (size_t i = 0; i < again->size(); ++i) {
      EXPECT_EQ((*again)[i].tokens, (*contexts)[i].tokens);
    }
  }
}

TEST(PromptLayout, LimitsAreErrorsWithBothCounts) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "seven ";
  const SourceMap map = SourceMap::Identity(text.size());
  const LayoutDocument document = {"sevens", text, &map};
  const PromptLayout narrow = Layout({.max_positions = 1000, .reserve = 100, .context_tokens = 16});
  const absl::Status over = narrow.LayOut({&document, 1}).status();
  EXPECT_EQ(ReasonOf(over), reason::kCorpusTooLong);
  EXPECT_GT(std::stoll(MetadataOf(over).at("tokens")), 16 * kMaxContexts);
  EXPECT_GT(std::stoll(MetadataOf(over).at("contexts")), kMaxContexts);
  EXPECT_EQ(MetadataOf(over).at("limit"), std::to_string(kMaxContexts));
  EXPECT_THAT(std::string(over.message()), HasSubstr(MetadataOf(over).at("tokens")));

  const LayoutDocument titled = {
      "a title of more words than there is room for in so small a context", text, &map};
  const absl::Status no_room = Layout({.max_positions = 1000, .reserve = 100, .context_tokens = 12})
                                   .LayOut({&titled, 1})
                                   .status();
  EXPECT_EQ(ReasonOf(no_room), reason::kContextTooLong);
  EXPECT_EQ(MetadataOf(no_room).at("limit"), "12");

  const PromptLayout small =
      Layout({.max_positions = 1000, .reserve = 100, .max_question_tokens = 6});
  const auto question = small.Question("What is it made of?");
  EXPECT_EQ(ReasonOf(question.status()), reason::kQuestionTooLong);
  const auto count = static_cast<int64_t>(IdsOf("What is it made of?").size()) + 2;
  EXPECT_EQ(MetadataOf(question.status()).at("tokens"), std::to_string(count));
  EXPECT_EQ(MetadataOf(question.status()).at("limit"), "6");
}

TEST(PromptLayout, AHopelessCorpusIsRefusedByItsBytes) {
  // One word, which no tokenizer would get through.
  const std::string text(size_t{64} << 20, 'x');
  const SourceMap map = SourceMap::Identity(text.size());
  const LayoutDocument document = {"x", text, &map};
  const absl::Status status =
      Layout({.max_positions = 100000, .context_tokens = 1000}).LayOut({&document, 1}).status();
  EXPECT_EQ(ReasonOf(status), reason::kCorpusTooLong);
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
  const auto context = LayOutOne(Layout(), {});
  ASSERT_TRUE(context.ok());
  EXPECT_EQ(context->Ids(), std::vector<TokenId>{Layout().bos()});
  EXPECT_TRUE(context->Part(0, 1, 128).Spans(0, 128).empty());
}

}  // namespace
}  // namespace lectern::engine
