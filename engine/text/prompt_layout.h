// The one way a corpus and a question become tokens: "lectern-qa-1".
//
//   <bos>
//   for every document:  <doc> title <text> text
//   for every turn:      <q> question <a> answer <end>
//
// A corpus that is larger than one context is several such sequences. Documents keep their order,
// and each is in the first context that it fits into behind the one before it; what does not fit
// any more begins the next context. Only a document that is alone larger than a context is cut: it
// begins a context, and each of its parts is laid out as a document with its title and some of its
// text. The text is tokenised in one piece and cut between two tokens, so that the parts' tokens
// are the document's, each once, with the byte ranges that they have anyway; behind a paragraph if
// one ends in the last eighth of the room, else behind a sentence, else between words.
//
// Special tokens come from here and from nowhere else: title, text and question are tokenised with
// special-token parsing off, each as a string of its own. Nothing is ever truncated: over a limit
// is an error with both counts.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/source_map.h"
#include "engine/text/tokenizer.h"

namespace lectern::engine {

// Part of the model fingerprint and of config.json ("prompt_layout").
inline constexpr std::string_view kPromptLayoutName = "lectern-qa-1";

// Positions of a model's range that a context leaves free for questions and answers.
inline constexpr int64_t kDefaultReserveTokens = 8192;
// Tokens of one question, framing included.
inline constexpr int64_t kDefaultMaxQuestionTokens = 4096;
// Contexts of one corpus: a question without a context of its own is read in every one of them.
inline constexpr int64_t kMaxContexts = 64;
// Of LayoutLimits::context_tokens: room for a title and some text.
inline constexpr int64_t kLeastContextTokens = 256;

struct LayoutLimits {
  int64_t max_positions = 0;  // the model's max_position_embeddings
  int64_t reserve = kDefaultReserveTokens;
  int64_t max_question_tokens = kDefaultMaxQuestionTokens;
  int64_t context_tokens = 0;  // contexts are no longer than this; 0: as the model allows

  int64_t max_context_tokens() const {
    const int64_t most = max_positions - reserve;
    return context_tokens == 0 ? most : std::min(most, context_tokens);
  }
};

// What a token of a context is.
enum class TokenRole : uint8_t {
  kBegin = 0,
  kDocumentMark = 1,
  kTitle = 2,
  kTextMark = 3,
  kText = 4
};

// Where one document, or a part of it, lies in a context. Positions are absolute token positions,
// half-open.
struct DocumentTokens {
  uint32_t document = 0;   // index in corpus order
  int64_t begin = 0;       // its <doc>
  int64_t text_begin = 0;  // the first token of its text
  int64_t end = 0;

  friend bool operator==(const DocumentTokens&, const DocumentTokens&) = default;
};

// One token of a context. Text and source ranges are meaningful for role kText only (title tokens:
// range in the title, source empty).
struct LayoutToken {
  TokenId id = 0;
  TokenRole role = TokenRole::kBegin;
  uint32_t document = 0;    // index in corpus order; 0 for <bos>
  uint32_t text_begin = 0;  // bytes of the document's text
  uint32_t text_end = 0;
  uint64_t source_begin = 0;  // bytes of the document's source space
  uint64_t source_end = 0;

  friend bool operator==(const LayoutToken&, const LayoutToken&) = default;
};

// A stretch of one document's text.
struct TextSpan {
  uint32_t document = 0;
  int64_t token_begin = 0;  // absolute positions of the text tokens covered
  int64_t token_end = 0;
  uint32_t text_begin = 0;
  uint32_t text_end = 0;
  uint64_t source_begin = 0;
  uint64_t source_end = 0;

  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

// Consecutive tokens of a context, self-contained, so that evidence reads only the parts it needs.
// Immutable; const members are thread-safe.
class LayoutPart {
 public:
  LayoutPart() = default;
  LayoutPart(int64_t first_position, std::vector<LayoutToken> tokens)
      : first_position_(first_position), tokens_(std::move(tokens)) {}

  int64_t begin() const { return first_position_; }
  int64_t end() const { return first_position_ + static_cast<int64_t>(tokens_.size()); }
  std::span<const LayoutToken> tokens() const { return tokens_; }
  const LayoutToken& at(int64_t position) const { return tokens_[position - first_position_]; }

  // The text of token positions [begin, end), one span a document (clipped at document borders;
  // marks and titles left out), in order. Positions outside the part are ignored: ask each part and
  // JoinSpans.
  std::vector<TextSpan> Spans(int64_t begin, int64_t end) const;

  // Versioned bytes, three to five a token. Parse: FAILED_PRECONDITION / STORED_FORMAT_NEWER,
  // DATA_LOSS / STORED_BYTES_CORRUPT.
  std::string Serialize() const;
  static absl::StatusOr<LayoutPart> Parse(std::string_view bytes);

 private:
  int64_t first_position_ = 0;
  std::vector<LayoutToken> tokens_;
};

// Joins spans of one document that touch in tokens (as at the border of two parts); the input is in
// position order.
std::vector<TextSpan> JoinSpans(std::span<const TextSpan> spans);

// A document as the layout takes it. The views must outlive the call only.
struct LayoutDocument {
  std::string_view title;  // as displayed; reflowed by the layout
  std::string_view text;   // ExtractedText::text
  const SourceMap* map = nullptr;
};

// A laid-out context.
struct ContextLayout {
  std::vector<LayoutToken> tokens;
  std::vector<DocumentTokens> documents;

  std::vector<TokenId> Ids() const;
  // The tokens of blocks [first_block, first_block + blocks), clipped at the end.
  LayoutPart Part(int64_t first_block, int64_t blocks, int64_t block_tokens) const;
};

// Thread-safe. The tokenizer must outlive it.
class PromptLayout {
 public:
  // Looks up the special tokens. INVALID_ARGUMENT / MODEL_TOKENIZER_MISMATCH names the first one
  // the tokenizer lacks or does not mark as special, or a reserve that leaves no room for a
  // context.
  static absl::StatusOr<PromptLayout> Create(const Tokenizer* tokenizer,
                                             const LayoutLimits& limits);

  // Lays out a corpus, in at least one context. `sizes`: the tokens of the contexts in which the
  // same documents were laid out before, under whatever limit; they are laid out in the same
  // contexts again, and what `sizes` does not say by limits().max_context_tokens().
  // INVALID_ARGUMENT:
  //   CORPUS_TOO_LONG (tokens, contexts, limit) when it takes more than kMaxContexts; for a corpus
  //     that is hopeless by its bytes alone, the message says "at least"
  //   CONTEXT_TOO_LONG (tokens, limit) when a document's title leaves no room for its text
  // Tokenizer errors name the document.
  absl::StatusOr<std::vector<ContextLayout>> LayOut(std::span<const LayoutDocument> documents,
                                                    std::span<const int64_t> sizes = {}) const;

  // `<q> question <a>`, the question reflowed as documents are, so that words quoted from one with
  // its line breaks read the same. INVALID_ARGUMENT: QUESTION_EMPTY (nothing but whitespace),
  // QUESTION_TOO_LONG (tokens, limit), TEXT_NOT_UTF8.
  absl::StatusOr<std::vector<TokenId>> Question(std::string_view question) const;

  // The answer as a person reads it: the text of its tokens less the one space an answer in
  // running-text form begins with.
  static std::string_view TrimAnswer(std::string_view answer) {
    return answer.starts_with(' ') ? answer.substr(1) : answer;
  }

  const LayoutLimits& limits() const { return limits_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  TokenId pad() const { return pad_; }
  TokenId bos() const { return bos_; }
  TokenId doc() const { return doc_; }
  TokenId text() const { return text_; }
  TokenId question() const { return question_; }
  TokenId answer() const { return answer_; }
  TokenId end() const { return end_; }    // ends an answer
  TokenId none() const { return none_; }  // the whole answer when the documents do not tell

 private:
  PromptLayout(const Tokenizer* tokenizer, const LayoutLimits& limits)
      : tokenizer_(tokenizer), limits_(limits) {}

  const Tokenizer* tokenizer_;
  LayoutLimits limits_;
  TokenId pad_ = 0, bos_ = 0, doc_ = 0, text_ = 0, question_ = 0, answer_ = 0, end_ = 0, none_ = 0;
};

}  // namespace lectern::engine
