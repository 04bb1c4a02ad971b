// The bundled model on a corpus of several contexts: what stands in one of them is found among all
// and answered from there.
#include <gtest/gtest.h>

#include <cctype>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

const CorpusName kCorpus = {.tenant = "default", .corpus = "texts"};
constexpr int kQuestionsPerDocument = 3;
constexpr size_t kQuotedWords = 10;

std::string ReadText(const std::string& name) {
  std::ifstream file(LECTERN_SOURCE_DIR "/training/handwritten/" + name + ".txt", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Word {
  size_t begin, end;
};

std::vector<Word> Words(const std::string& text) {
  std::vector<Word> words;
  for (size_t i = 0; i < text.size();) {
    while (i < text.size() && std::isspace(static_cast<unsigned char>(text[i]))) ++i;
    const size_t begin = i;
    while (i < text.size() && !std::isspace(static_cast<unsigned char>(text[i]))) ++i;
    if (i > begin) words.push_back({begin, i});
  }
  return words;
}

TEST(ContextsModelTest, WhatStandsInOneContextIsFoundAmongAllAndAnsweredFromIt) {
  // Two of these are more than a context holds.
  auto opened =
      Engine::Open({.model_dir = LECTERN_SOURCE_DIR "/models/default", .context_tokens = 2048});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Engine& engine = **opened;
  std::map<std::string, std::string> documents;
  for (const std::string id :
       {"employee_handbook", "factory_incident", "interview", "lease", "short_story"}) {
    documents[id] = ReadText(id);
    ASSERT_FALSE(documents[id].empty()) << id;
    testing::Upload(engine, kCorpus, id, documents[id]);
  }
  const Operation ingest = testing::IngestAndWait(engine, kCorpus);
  ASSERT_TRUE(ingest.error.ok()) << ingest.error;
  ASSERT_EQ(ingest.contexts, 5);
  std::map<std::string, int> context_of;
  const auto generation = engine.GetGeneration({kCorpus, ingest.generation});
  ASSERT_TRUE(generation.ok()) << generation.status();
  for (const ContextInfo& context : generation->contexts) {
    ASSERT_EQ(context.document_count, 1);
    context_of[context.first_document] = context.index;
  }

  std::mt19937_64 random(5);
  int asked = 0;
  int found = 0;
  int answered = 0;
  for (const auto& [id, text] : documents) {
    const std::vector<Word> words = Words(text);
    for (int i = 0; i < kQuestionsPerDocument;) {
      const size_t at = random() % (words.size() - 2 * kQuotedWords);
      const size_t begin = words[at].begin;
      const size_t end = words[at + kQuotedWords - 1].end;
      const std::string quoted = text.substr(begin, end - begin);
      // One paragraph.
      if (quoted.find('\n') != std::string::npos || text[end] == '\n') continue;
      ++i;
      ++asked;
      const std::string question = "What comes right after \"" + quoted + "\"?";
      const auto spans =
          testing::RetrieveAndWait(engine, {.target = {.corpus = kCorpus}, .query = question});
      ASSERT_TRUE(spans.ok()) << spans.status();
      ASSERT_FALSE(spans->spans.empty());
      const Evidence& first = spans->spans[0];
      const bool right = first.document == id && first.context == context_of[id] &&
                         first.byte_begin < static_cast<int64_t>(end) + 100 &&
                         first.byte_end > static_cast<int64_t>(begin);
      found += right;
      if (!right)
        std::printf("%s: %s -> %s: %s\n", id.c_str(), quoted.c_str(), first.document.c_str(),
                    first.quote.c_str());
      const auto answer = testing::AskAndWait(
          engine, {.target = {.corpus = kCorpus}, .question = question, .max_tokens = 8});
      ASSERT_TRUE(answer.ok()) << answer.status();
      EXPECT_EQ(answer->context.index, spans->contexts[0].context.index);
      const Word next = words[at + kQuotedWords];
      const std::string expected = text.substr(next.begin, next.end - next.begin);
      answered += answer->context.index == context_of[id] && answer->text.starts_with(expected);
    }
  }
  EXPECT_EQ(asked, 15);
  EXPECT_GE(found, asked - 1);
  EXPECT_GE(answered, asked - 1);
}

}  // namespace
}  // namespace lectern::engine
