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

absl::Status CorpusTooLong(int64_t tokens, int64_t contexts, const LayoutLimits& limits,
                           std::string_view qualifier) {
  return InvalidArgument(
      reason::kCorpusTooLong,
      fmt::format(
          "the corpus has {}{} tokens, which take {}{} contexts of up to {} tokens; a corpus "
          "has at most {}: take documents out of it, or split it into several",
          qualifier, tokens, qualifier, contexts, limits.max_context_tokens(), kMaxContexts),
      {{"tokens", std::to_string(tokens)},
       {"contexts", std::to_string(contexts)},
       {"limit", std::to_string(kMaxContexts)}});
}

// How good it is to cut `text` before byte `at`; 0: in the middle of a character.
int CutQuality(std::string_view text, size_t at) {
  if (at == 0 || at >= text.size()) return 0;
  if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) return 0;
  const auto blank = [](char c) { return c == ' ' || c == '\n'; };
  if (text[at] != '\n' && text[at - 1] == '\n') return 4;
  if (!blank(text[at]) && !blank(text[at - 1])) return 1;
  const size_t word = text.find_last_not_of(" \n", at - 1);
  if (word == std::string_view::npos) return 2;
  return text[word] == '.' || text[word] == '!' || text[word] == '?' ? 3 : 2;
}

// Where the part of a text that begins with its token number `first` ends if there is room for
// `room` tokens, and more are left: in the last eighth of them at the best place, the last such.
size_t EndOfPart(std::string_view text, std::span<const Token> tokens, size_t first, size_t room) {
  const size_t end = first + room;
  size_t best = end;
  int best_quality = CutQuality(text, tokens[end].begin);
  const size_t least = first + std::max<size_t>(1, room - room / 8);
  for (size_t cut = end; cut-- > least;) {
    const int quality = CutQuality(text, tokens[cut].begin);
    if (quality <= best_quality) continue;
    best = cut;
    best_quality = quality;
  }
  return best;
}

// Contexts being filled, one after the other. Those over kMaxContexts are counted, not kept.
class Filling {
 public:
  Filling(TokenId bos, const LayoutLimits& limits, std::span<const int64_t> sizes)
      : bos_(bos), limits_(limits), sizes_(sizes) {
    Begin();
  }

  // Of the context at hand: what it takes, and what has been put into it.
  int64_t limit() const { return LimitOf(count_ - 1); }
  int64_t room() const { return limit() - used_; }
  bool fresh() const { return used_ == 1; }
  // Whether its size is given.
  bool given() const { return count_ <= static_cast<int64_t>(sizes_.size()); }

  void Begin() {
    ++count_;
    ++tokens_;
    used_ = 1;
    if (count_ > kMaxContexts) {
      contexts_.clear();
      return;
    }
    contexts_.emplace_back().tokens.push_back({.id = bos_, .role = TokenRole::kBegin});
  }

  // A document, or the tokens [begin, end) of its text.
  struct Part {
    uint32_t document = 0;
    std::span<const Token> title;
    std::span<const Token> text;
    const SourceMap* map = nullptr;
  };
  void Add(const Part& part, TokenId doc_mark, TokenId text_mark) {
    const auto size = static_cast<int64_t>(2 + part.title.size() + part.text.size());
    used_ += size;
    tokens_ += size;
    if (contexts_.empty()) return;
    std::vector<LayoutToken>& tokens = contexts_.back().tokens;
    const uint32_t d = part.document;
    DocumentTokens place = {.document = d, .begin = static_cast<int64_t>(tokens.size())};
    tokens.push_back({.id = doc_mark, .role = TokenRole::kDocumentMark, .document = d});
    for (const Token& token : part.title) {
      tokens.push_back({token.id, TokenRole::kTitle, d, token.begin, token.end, 0, 0});
    }
    tokens.push_back({.id = text_mark, .role = TokenRole::kTextMark, .document = d});
    place.text_begin = static_cast<int64_t>(tokens.size());
    for (const Token& token : part.text) {
      const SourceRange source = part.map->Map(token.begin, token.end);
      tokens.push_back(
          {token.id, TokenRole::kText, d, token.begin, token.end, source.begin, source.end});
    }
    place.end = static_cast<int64_t>(tokens.size());
    contexts_.back().documents.push_back(place);
  }

  int64_t count() const { return count_; }
  int64_t tokens() const { return tokens_; }
  std::vector<ContextLayout> Take() { return std::move(contexts_); }

 private:
  int64_t LimitOf(int64_t context) const {
    return context < static_cast<int64_t>(sizes_.size()) ? sizes_[static_cast<size_t>(context)]
                                                         : limits_.max_context_tokens();
  }

  const TokenId bos_;
  const LayoutLimits& limits_;
  const std::span<const int64_t> sizes_;
  std::vector<ContextLayout> contexts_;
  int64_t count_ = 0;   // contexts
  int64_t used_ = 0;    // tokens of the last one
  int64_t tokens_ = 0;  // of all
};

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

absl::StatusOr<std::vector<ContextLayout>> PromptLayout::LayOut(
    std::span<const LayoutDocument> documents, std::span<const int64_t> sizes) const {
  // Bytes alone can be enough to say no, before a gigabyte is tokenised.
  int64_t at_least = 1;
  for (const LayoutDocument& document : documents) {
    const auto bytes = static_cast<int64_t>(document.text.size());
    at_least += 2 + bytes / static_cast<int64_t>(tokenizer_->max_token_bytes());
  }
  const int64_t contexts = (at_least - 1) / limits_.max_context_tokens() + 1;
  // A normaliser may shorten a text, so that its bytes say nothing.
  if (contexts > kMaxContexts && sizes.empty() && !tokenizer_->has_normalizer()) {
    return CorpusTooLong(at_least, contexts, limits_, "at least ");
  }
  Filling filling(bos_, limits_, sizes);
  for (uint32_t d = 0; d < documents.size(); ++d) {
    const LayoutDocument& document = documents[d];
    LECTERN_CHECK(document.map != nullptr && document.map->text_size() == document.text.size());
    const std::string title = Reflow(document.title).text;
    const absl::StatusOr<std::vector<Token>> title_tokens = tokenizer_->Encode(title);
    const absl::StatusOr<std::vector<Token>> text_tokens = tokenizer_->Encode(document.text);
    for (const auto* tokens : {&title_tokens, &text_tokens}) {
      if (!tokens->ok()) return Annotate(tokens->status(), fmt::format("document \"{}\"", title));
    }
    const std::span<const Token> text = *text_tokens;
    const auto head = static_cast<int64_t>(2 + title_tokens->size());
    const auto whole = head + static_cast<int64_t>(text.size());
    if (whole > filling.room() && !filling.fresh()) filling.Begin();
    for (size_t first = 0;;) {
      const int64_t room = filling.room() - head;
      const auto left = static_cast<int64_t>(text.size() - first);
      size_t end = text.size();
      if (left > room) {
        if (room < 1) {
          return InvalidArgument(
              reason::kContextTooLong,
              fmt::format("document \"{}\": its title has {} tokens, and a context takes {}: give "
                          "it a shorter title",
                          title, head - 2, filling.limit()),
              {{"tokens", std::to_string(head)}, {"limit", std::to_string(filling.limit())}});
        }
        end = filling.given() ? first + static_cast<size_t>(room)
                              : EndOfPart(document.text, text, first, static_cast<size_t>(room));
      }
      filling.Add({.document = d,
                   .title = *title_tokens,
                   .text = text.subspan(first, end - first),
                   .map = document.map},
                  doc_, text_);
      first = end;
      if (first == text.size()) break;
      filling.Begin();
    }
  }
  if (filling.count() > kMaxContexts) {
    return CorpusTooLong(filling.tokens(), filling.count(), limits_, "");
  }
  return filling.Take();
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
