#include "engine/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/utf8.h"
#include "engine/text/word_cache.h"

namespace lectern::engine {
namespace {

constexpr TokenId kMaxTokenId = (1 << 24) - 1;
constexpr int kMaxDecoderDepth = 8;

absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& json) {
  AddedToken token;
  LECTERN_ASSIGN_OR_RETURN(token.content, StringField(json, "added_tokens", "content"));
  if (!json.contains("id") || !json.at("id").is_number_integer() ||
      json.at("id").get<int64_t>() < 0 || json.at("id").get<int64_t>() > kMaxTokenId) {
    return BrokenTokenizer(
        fmt::format("added token \"{}\" has no id from 0 to {}", token.content, kMaxTokenId));
  }
  token.id = json.at("id").get<TokenId>();
  LECTERN_ASSIGN_OR_RETURN(token.special, BoolField(json, "added_tokens", "special", false));
  LECTERN_ASSIGN_OR_RETURN(token.single_word,
                           BoolField(json, "added_tokens", "single_word", false));
  LECTERN_ASSIGN_OR_RETURN(token.lstrip, BoolField(json, "added_tokens", "lstrip", false));
  LECTERN_ASSIGN_OR_RETURN(token.rstrip, BoolField(json, "added_tokens", "rstrip", false));
  LECTERN_ASSIGN_OR_RETURN(token.normalized,
                           BoolField(json, "added_tokens", "normalized", !token.special));
  return token;
}

absl::Status CheckDecoder(const nlohmann::json& json, int depth, bool* byte_level) {
  LECTERN_ASSIGN_OR_RETURN(const std::string type, ComponentType(json, "decoder", depth));
  if (type == "ByteLevel") {
    *byte_level = true;
  } else if (type == "Sequence") {
    if (depth > kMaxDecoderDepth) return UnsupportedSetting("decoder", "nested sequences");
    LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* list, ArrayField(json, "decoder", "decoders"));
    for (const nlohmann::json& entry : *list) {
      LECTERN_RETURN_IF_ERROR(CheckDecoder(entry, depth + 1, byte_level));
    }
  } else if (type != "Fuse") {
    return UnsupportedComponent("decoder", type);
  }
  return absl::OkStatus();
}

}  // namespace

struct Tokenizer::Parts {
  Normalizer normalizer;
  std::optional<PreTokenizer> pre_tokenizer;
  std::optional<BpeModel> model;
  AddedTokenFinder raw_added;         // found in the text as given
  AddedTokenFinder normalized_added;  // found after normalisation
  absl::flat_hash_map<std::string, TokenId> added_ids;
  std::vector<std::string> bytes;  // by id
  std::vector<bool> special;       // by id
  size_t max_token_bytes = 1;

  absl::Status ReadAdded(const nlohmann::json& json);
  absl::Status Add(AddedToken token);
  void SetBytes(TokenId id, std::string spelled);
};

void Tokenizer::Parts::SetBytes(TokenId id, std::string spelled) {
  if (static_cast<size_t>(id) >= bytes.size()) {
    bytes.resize(id + 1);
    special.resize(id + 1);
  }
  bytes[id] = std::move(spelled);
  max_token_bytes = std::max(max_token_bytes, bytes[id].size());
}

absl::Status Tokenizer::Parts::Add(AddedToken token) {
  const auto in_model = model->vocabulary().find(token.content);
  const bool known = in_model != model->vocabulary().end();
  if (known && in_model->second != token.id) {
    return BrokenTokenizer(
        fmt::format("added token \"{}\" has id {}, the model's vocabulary says {}", token.content,
                    token.id, in_model->second));
  }
  const bool taken = static_cast<size_t>(token.id) < bytes.size() && !bytes[token.id].empty();
  if (taken && !known) {
    return BrokenTokenizer(fmt::format("added token \"{}\" has id {}, which another token has",
                                       token.content, token.id));
  }
  SetBytes(token.id, token.content);
  if (token.special) {
    special[token.id] = true;
    LECTERN_RETURN_IF_ERROR(model->Protect(token.id));
  }
  added_ids[token.content] = token.id;
  if (!token.normalized) {
    raw_added.Add(std::move(token));
    return absl::OkStatus();
  }
  NormalizedText content(token.content);
  LECTERN_RETURN_IF_ERROR(normalizer.Apply(&content));
  AddedToken normalized = token;
  normalized.content = content.text();
  normalized_added.Add(std::move(normalized));
  return absl::OkStatus();
}

absl::Status Tokenizer::Parts::ReadAdded(const nlohmann::json& json) {
  if (!json.contains("added_tokens") || json.at("added_tokens").is_null()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* list,
                           ArrayField(json, "tokenizer", "added_tokens"));
  for (const nlohmann::json& entry : *list) {
    LECTERN_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry));
    LECTERN_RETURN_IF_ERROR(Add(std::move(token)));
  }
  return absl::OkStatus();
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::LoadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (!file || !(bytes << file.rdbuf())) {
    return Error(
        absl::StatusCode::kNotFound, reason::kModelFileUnreadable,
        fmt::format(
            "cannot read {}; a model directory holds config.json, tokenizer.json and safetensors",
            path),
        {{"path", path}});
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Load(std::move(bytes).str());
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(std::string_view json) {
  const nlohmann::json root = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return BrokenTokenizer("it is not JSON in UTF-8");
  if (!root.is_object()) return BrokenTokenizer("it is not a JSON object");
  const auto section = [&root](const char* name) {
    return root.contains(name) ? root.at(name) : nlohmann::json();
  };
  auto parts = std::make_unique<Parts>();
  LECTERN_ASSIGN_OR_RETURN(parts->normalizer, Normalizer::Parse(section("normalizer")));
  LECTERN_ASSIGN_OR_RETURN(parts->pre_tokenizer, PreTokenizer::Parse(section("pre_tokenizer")));
  LECTERN_ASSIGN_OR_RETURN(parts->model, BpeModel::Parse(section("model")));
  const nlohmann::json decoder = section("decoder");
  bool byte_level = false;
  if (!decoder.is_null()) LECTERN_RETURN_IF_ERROR(CheckDecoder(decoder, 0, &byte_level));
  if (!byte_level) return UnsupportedSetting("decoder", "no ByteLevel");
  std::string bytes;
  for (const auto& [content, id] : parts->model->vocabulary()) {
    parts->SetBytes(id, ReadSpelled(content, &bytes) ? bytes : content);
  }
  LECTERN_RETURN_IF_ERROR(parts->ReadAdded(root));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

namespace {

// One Encode call: carries a text through added tokens, normaliser, words and merges.
class Encoding {
 public:
  Encoding(const Normalizer& normalizer, const PreTokenizer& pre_tokenizer, const BpeModel& model,
           const AddedTokenFinder& normalized_added, bool parse_special, size_t text_bytes)
      : normalizer_(normalizer),
        pre_tokenizer_(pre_tokenizer),
        model_(model),
        normalized_added_(normalized_added),
        parse_special_(parse_special),
        session_(&pre_tokenizer),
        cache_(text_bytes) {}

  void AddToken(TokenId id, size_t begin, size_t end) {
    tokens_.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
  }

  // `piece` of the given text, which begins at `base` there.
  absl::Status AddText(std::string_view piece, size_t base) {
    NormalizedText normalized(piece);
    LECTERN_RETURN_IF_ERROR(normalizer_.Apply(&normalized));
    text_ = normalized.text();
    map_ = normalized.map();
    base_ = base;
    for (const AddedTokenFinder::Piece& part : normalized_added_.Split(text_, parse_special_)) {
      if (part.token != nullptr) {
        Emit(part.token->id, part.begin, part.end);
        continue;
      }
      part_begin_ = part.begin;
      LECTERN_RETURN_IF_ERROR(
          pre_tokenizer_.Split(text_.substr(part.begin, part.end - part.begin), &session_,
                               [this](const Word& word) { return AddWord(word); }));
    }
    return absl::OkStatus();
  }

  std::vector<Token> Take() && { return std::move(tokens_); }

 private:
  absl::Status AddWord(const Word& word) {
    std::span<const WordToken> tokens = cache_.Find(word.bytes);
    if (tokens.empty()) {
      word_tokens_.clear();
      if (absl::Status status = model_.Encode(word.bytes, &word_tokens_); !status.ok()) {
        return Annotate(status, fmt::format("at byte {}", base_ + part_begin_ + word.begin));
      }
      cache_.Insert(word.bytes, word_tokens_);
      tokens = word_tokens_;
    }
    // Positions in the word run one ahead of the text's when a space was put before it.
    const size_t ahead = word.prefixed ? 1 : 0;
    size_t done = 0;
    for (const WordToken& token : tokens) {
      const size_t end = done + token.bytes;
      const size_t begin = part_begin_ + word.begin;
      Emit(token.id, begin + (done > ahead ? done - ahead : 0),
           begin + (end > ahead ? end - ahead : 0));
      done = end;
    }
    return absl::OkStatus();
  }

  // [begin, end) of the normalised piece.
  void Emit(TokenId id, size_t begin, size_t end) {
    if (begin < end) {
      while (IsUtf8Continuation(text_[begin])) --begin;
      while (end < text_.size() && IsUtf8Continuation(text_[end])) ++end;
    }
    if (map_ == nullptr) return AddToken(id, base_ + begin, base_ + end);
    const SourceRange range = map_->Map(begin, end);
    AddToken(id, base_ + range.begin, base_ + range.end);
  }

  const Normalizer& normalizer_;
  const PreTokenizer& pre_tokenizer_;
  const BpeModel& model_;
  const AddedTokenFinder& normalized_added_;
  bool parse_special_;
  PreTokenizer::Session session_;
  WordCache cache_;
  std::vector<Token> tokens_;
  std::vector<WordToken> word_tokens_;
  // The piece at work.
  std::string_view text_;
  const SourceMap* map_ = nullptr;
  size_t base_ = 0;
  size_t part_begin_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenizer::Encode(std::string_view text,
                                                     const EncodeOptions& options) const {
  if (text.size() > std::numeric_limits<uint32_t>::max()) {
    return InvalidArgument(
        reason::kTextTooLong,
        fmt::format("the text has {} bytes, the tokenizer takes 4294967295; split it", text.size()),
        {{"size", std::to_string(text.size())}});
  }
  if (const size_t bad = FirstInvalidUtf8(text); bad != std::string_view::npos) {
    return InvalidArgument(
        reason::kTextNotUtf8,
        fmt::format("the text is not UTF-8 at byte {}; convert it to UTF-8", bad),
        {{"offset", std::to_string(bad)}});
  }
  Encoding encoding(parts_->normalizer, *parts_->pre_tokenizer, *parts_->model,
                    parts_->normalized_added, options.parse_special, text.size());
  for (const AddedTokenFinder::Piece& piece :
       parts_->raw_added.Split(text, options.parse_special)) {
    if (piece.token != nullptr) {
      encoding.AddToken(piece.token->id, piece.begin, piece.end);
    } else {
      LECTERN_RETURN_IF_ERROR(
          encoding.AddText(text.substr(piece.begin, piece.end - piece.begin), piece.begin));
    }
  }
  return std::move(encoding).Take();
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::EncodeIds(std::string_view text,
                                                          const EncodeOptions& options) const {
  LECTERN_ASSIGN_OR_RETURN(const std::vector<Token> tokens, Encode(text, options));
  std::vector<TokenId> ids;
  ids.reserve(tokens.size());
  for (const Token& token : tokens) ids.push_back(token.id);
  return ids;
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  for (const TokenId id : ids) {
    if (!skip_special || !IsSpecial(id)) text += TokenBytes(id);
  }
  return text;
}

std::string_view Tokenizer::TokenBytes(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= parts_->bytes.size()) return {};
  return parts_->bytes[id];
}

std::optional<TokenId> Tokenizer::FindToken(std::string_view content) const {
  const std::string key(content);
  if (const auto added = parts_->added_ids.find(key); added != parts_->added_ids.end())
    return added->second;
  const auto entry = parts_->model->vocabulary().find(key);
  if (entry == parts_->model->vocabulary().end()) return std::nullopt;
  return entry->second;
}

bool Tokenizer::IsSpecial(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < parts_->special.size() && parts_->special[id];
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(parts_->bytes.size()); }
size_t Tokenizer::max_token_bytes() const { return parts_->max_token_bytes; }
bool Tokenizer::has_normalizer() const { return !parts_->normalizer.empty(); }

std::string StreamingDecoder::Push(TokenId id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return "";
  pending_ += tokenizer_->TokenBytes(id);
  const size_t complete = CompleteUtf8Prefix(pending_);
  std::string out = ReplaceInvalidUtf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return out;
}

std::string StreamingDecoder::Finish() {
  std::string out = ReplaceInvalidUtf8(pending_);
  pending_.clear();
  return out;
}

}  // namespace lectern::engine
