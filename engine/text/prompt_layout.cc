#include "engine/text/prompt_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/extractor.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

absl::Status ContextTooLong(int64_t tokens, const LayoutLimits& limits,
                            std::string_view qualifier) {
  return InvalidArgument(
      reason::kContextTooLong,
      fmt::format("the corpus has {}{} tokens, a context of this model takes {} ({} positions less "
                  "{} kept for questions and "
                  "answers); take documents out of the corpus, or split it into several",
                  qualifier, tokens, limits.max_context_tokens(), limits.max_positions,
                  limits.reserve),
      {{"tokens", std::to_string(tokens)}, {"limit", std::to_string(limits.max_context_tokens())}});
}

}  // namespace

std::vector<TokenId> ContextLayout::Ids() const {
  std::vector<TokenId> ids;
  ids.reserve(tokens.size());
  for (const LayoutToken& token : tokens) ids.push_back(token.id);
  return ids;
}

LayoutPart ContextLayout::Part(int64_t first_block, int64_t blocks, int64_t block_tokens) const {
  LECTERN_CHECK(first_block >= 0 && blocks >= 0 && block_tokens > 0);
  const auto size = static_cast<int64_t>(tokens.size());
  const int64_t begin = std::min(size, first_block * block_tokens);
  const int64_t end = std::min(size, begin + blocks * block_tokens);
  return {begin, {tokens.begin() + begin, tokens.begin() + end}};
}

absl::StatusOr<PromptLayout> PromptLayout::Create(const Tokenizer* tokenizer,
                                                  const LayoutLimits& limits) {
  PromptLayout layout(tokenizer, limits);
  struct Special {
    std::string_view content;
    TokenId* id;
  };
  for (const Special& special :
       {Special{"<pad>", &layout.pad_}, Special{"<bos>", &layout.bos_},
        Special{"<doc>", &layout.doc_}, Special{"<text>", &layout.text_},
        Special{"<q>", &layout.question_}, Special{"<a>", &layout.answer_},
        Special{"<end>", &layout.end_}, Special{"<none>", &layout.none_}}) {
    const std::optional<TokenId> id = tokenizer->FindToken(special.content);
    if (!id.has_value() || !tokenizer->IsSpecial(*id)) {
      return InvalidArgument(
          reason::kModelTokenizerMismatch,
          fmt::format(
              "tokenizer.json has no special token {}, which prompt layout {} needs; use a model "
              "trained for Lectern",
              special.content, kPromptLayoutName),
          {{"token", std::string(special.content)}});
    }
    *special.id = *id;
  }
  if (limits.reserve < 0 || limits.max_context_tokens() < 1 || limits.max_question_tokens < 1) {
    return InvalidArgument(reason::kModelTokenizerMismatch,
                           fmt::format("the model has {} positions; with {} kept for questions and "
                                       "answers none is left for documents",
                                       limits.max_positions, limits.reserve),
                           {{"tokens", std::to_string(limits.max_positions)},
                            {"limit", std::to_string(limits.reserve)}});
  }
  return layout;
}

absl::StatusOr<ContextLayout> PromptLayout::LayOut(
    std::span<const LayoutDocument> documents) const {
  // Bytes alone can be enough to say no, before a gigabyte is tokenised.
  int64_t at_least = 1;
  for (const LayoutDocument& document : documents) {
    const auto bytes = static_cast<int64_t>(document.text.size());
    at_least += 2 + bytes / static_cast<int64_t>(tokenizer_->max_token_bytes());
  }
  // A normaliser may shorten a text, so that its bytes say nothing.
  if (at_least > limits_.max_context_tokens() && !tokenizer_->has_normalizer()) {
    return ContextTooLong(at_least, limits_, "at least ");
  }
  ContextLayout context;
  context.tokens.push_back({.id = bos_, .role = TokenRole::kBegin});
  int64_t total = 1;
  for (uint32_t d = 0; d < documents.size(); ++d) {
    const LayoutDocument& document = documents[d];
    LECTERN_CHECK(document.map != nullptr && document.map->text_size() == document.text.size());
    const std::string title = Reflow(document.title).text;
    absl::StatusOr<std::vector<Token>> title_tokens = tokenizer_->Encode(title);
    absl::StatusOr<std::vector<Token>> text_tokens = tokenizer_->Encode(document.text);
    for (const auto* tokens : {&title_tokens, &text_tokens}) {
      if (!tokens->ok()) return Annotate(tokens->status(), fmt::format("document \"{}\"", title));
    }
    total += 2 + static_cast<int64_t>(title_tokens->size() + text_tokens->size());
    // Over the limit nothing more is kept, only counted: the error tells the whole count.
    if (total > limits_.max_context_tokens()) {
      context = {};
      continue;
    }
    DocumentTokens place;
    place.begin = static_cast<int64_t>(context.tokens.size());
    context.tokens.push_back({.id = doc_, .role = TokenRole::kDocumentMark, .document = d});
    for (const Token& token : *title_tokens) {
      context.tokens.push_back({token.id, TokenRole::kTitle, d, token.begin, token.end, 0, 0});
    }
    context.tokens.push_back({.id = text_, .role = TokenRole::kTextMark, .document = d});
    place.text_begin = static_cast<int64_t>(context.tokens.size());
    for (const Token& token : *text_tokens) {
      const SourceRange source = document.map->Map(token.begin, token.end);
      context.tokens.push_back(
          {token.id, TokenRole::kText, d, token.begin, token.end, source.begin, source.end});
    }
    place.end = static_cast<int64_t>(context.tokens.size());
    context.documents.push_back(place);
  }
  if (total > limits_.max_context_tokens()) return ContextTooLong(total, limits_, "");
  return context;
}

absl::StatusOr<std::vector<TokenId>> PromptLayout::Question(std::string_view question) const {
  // The tokenizer says where the text stops being UTF-8; Reflow takes nothing else.
  if (FirstInvalidUtf8(question) != std::string_view::npos)
    return tokenizer_->EncodeIds(question).status();
  const std::string reflowed = Reflow(question).text;
  if (reflowed.empty()) {
    return InvalidArgument(reason::kQuestionEmpty, "the question is empty; ask something");
  }
  LECTERN_ASSIGN_OR_RETURN(const std::vector<TokenId> words, tokenizer_->EncodeIds(reflowed));
  const auto tokens = static_cast<int64_t>(words.size()) + 2;
  if (tokens > limits_.max_question_tokens) {
    return InvalidArgument(reason::kQuestionTooLong,
                           fmt::format("the question has {} tokens, the limit is {}; shorten it, "
                                       "or upload its text as a document",
                                       tokens, limits_.max_question_tokens),
                           {{"tokens", std::to_string(tokens)},
                            {"limit", std::to_string(limits_.max_question_tokens)}});
  }
  std::vector<TokenId> ids;
  ids.reserve(tokens);
  ids.push_back(question_);
  ids.insert(ids.end(), words.begin(), words.end());
  ids.push_back(answer_);
  return ids;
}

}  // namespace lectern::engine
