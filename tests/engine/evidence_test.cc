// The bundled model on copy questions over real texts: the true span and document must come first
// among the evidence nearly always, and every quote must be the source's bytes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include "engine/engine.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

const CorpusName kCorpus = {.tenant = "default", .corpus = "texts"};
constexpr int kQuestionsPerDocument = 7;
constexpr int kQuotedWords = 10;
constexpr int kAnswerTokens = 12;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Word {
  size_t begin, end;
};

// Words of plain letters: what people quote.
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

TEST(EvidenceTest, CopyQuestionsPointAtTheirSource) {
  const std::string root = LECTERN_SOURCE_DIR;
  const std::string written = root + "/training/handwritten/";
  // Texts that no change of the house's own pages touches.
  const std::map<std::string, std::string> documents = {
      {"handbook", ReadFile(written + "employee_handbook.txt")},
      {"incident", ReadFile(written + "factory_incident.txt")},
      {"interview", ReadFile(written + "interview.txt")},
      {"lease", ReadFile(written + "lease.txt")},
      {"license", ReadFile(root + "/LICENSE")},
      {"report", ReadFile(written + "quarterly_report.txt")},
      {"story", ReadFile(written + "short_story.txt")},
      {"xz", ReadFile(root + "/tests/engine/text/manual_page.txt")},
  };
  auto opened = Engine::Open({.model_dir = root + "/models/default"});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Engine& engine = **opened;
  for (const auto& [id, text] : documents) {
    ASSERT_FALSE(text.empty()) << id;
    testing::Upload(engine, kCorpus, id, text);
  }
  const Operation ingest = testing::IngestAndWait(engine, kCorpus);
  ASSERT_TRUE(ingest.error.ok()) << ingest.error;

  std::mt19937_64 random(5);
  int asked = 0;
  int span_first = 0;
  int document_first = 0;
  for (const auto& [id, text] : documents) {
    const std::vector<Word> words = Words(text);
    for (int i = 0; i < kQuestionsPerDocument;) {
      const size_t at = random() % (words.size() - 2 * kQuotedWords);
      const Word& first = words[at];
      const Word& last = words[at + kQuotedWords - 1];
      const Word& next = words[at + kQuotedWords];
      const std::string quoted = text.substr(first.begin, last.end - first.begin);
      // One paragraph, and nowhere else in the corpus.
      if (quoted.find('\n') != std::string::npos || text[last.end] == '\n') continue;
      int occurrences = 0;
      for (const auto& [other, haystack] : documents) {
        for (size_t p = haystack.find(quoted); p != std::string::npos;
             p = haystack.find(quoted, p + 1))
          ++occurrences;
      }
      if (occurrences != 1) continue;
      ++i;
      ++asked;
      auto answer = testing::AskAndWait(engine, {.target = {.corpus = kCorpus},
                                                 .question = "What follows the words: " + quoted,
                                                 .max_tokens = kAnswerTokens});
      ASSERT_TRUE(answer.ok()) << answer.status();
      for (const Evidence& evidence : answer->evidence) {
        ASSERT_TRUE(documents.contains(evidence.document));
        EXPECT_EQ(evidence.quote,
                  documents.at(evidence.document)
                      .substr(static_cast<size_t>(evidence.byte_begin),
                              static_cast<size_t>(evidence.byte_end - evidence.byte_begin)));
      }
      ASSERT_FALSE(answer->evidence.empty());
      const Evidence& best = answer->evidence[0];
      document_first += best.document == id;
      const bool holds_next = best.document == id &&
                              best.byte_begin <= static_cast<int64_t>(next.begin) &&
                              best.byte_end >= static_cast<int64_t>(next.begin) + 1;
      span_first += holds_next;
      if (!holds_next) {
        std::printf(
            "missed: %s, byte %zu; first evidence %s %lld-%lld; answer \"%s\"; question \"%s\"\n",
            id.c_str(), next.begin, best.document.c_str(), static_cast<long long>(best.byte_begin),
            static_cast<long long>(best.byte_end), answer->text.c_str(), quoted.c_str());
      }
    }
  }
  std::printf("%d copy questions over %lld tokens: true span first %d, document first %d\n", asked,
              static_cast<long long>(ingest.tokens_total), span_first, document_first);
  // The bundled weights find 52 spans and 54 documents of 56.
  EXPECT_GE(span_first * 100, asked * 90);
  EXPECT_GE(document_first * 100, asked * 95);
}

}  // namespace
}  // namespace lectern::engine
