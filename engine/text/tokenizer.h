// Hugging Face tokenizer.json, byte-level BPE: the same tokens as the `tokenizers` package, with
// the byte range of each.
//
// Read: normalizers NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip, StripAccents,
// Sequence; pre-tokenizers Split, ByteLevel (which must come last), Digits, Whitespace,
// WhitespaceSplit, Punctuation, Sequence; model BPE; added tokens; decoders ByteLevel, Fuse,
// Sequence. Anything else is refused at Load by its name (TOKENIZER_UNSUPPORTED): a tokenizer that
// is nearly right is wrong.
//
// Left out on purpose: post_processor (special tokens are placed by the prompt layout), truncation
// and padding (a prompt is never cut).
//
// Known differences, all in characters that younger Unicode versions added: the package normalises
// by Unicode 9, we by ICU's (15 in Debian 12); its expressions know Unicode 15 or later,
// PCRE2's 14. An added token with letters over U+007F decodes to its own spelling here, to U+FFFD
// there.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::engine {

using TokenId = int32_t;

// A token and the bytes of the given text it stands for, half-open.
//
// The ranges of a text's tokens never move backwards and cover the text, whitespace included (the
// reference's `trim_offsets` is not applied). A token that holds part of a character has the whole
// character's range, so neighbours may overlap by one character. Under a normaliser, a normalised
// character has the range of the source characters it came from (for NFC and the like: of its whole
// normalisation segment, a base with its marks); inserted characters have an empty range; removed
// ones belong to no token.
struct Token {
  TokenId id = 0;
  uint32_t begin = 0;
  uint32_t end = 0;

  friend bool operator==(const Token&, const Token&) = default;
};

struct EncodeOptions {
  // True: a special token's spelling in the text becomes the special token. False, the default and
  // right for anything a user wrote: it is plain text. Added tokens that are not special are
  // recognised either way.
  bool parse_special = false;
};

// One word (pre-token) without any point at which its tokens must part may have this many bytes;
// longer is not a text.
inline constexpr size_t kMaxWordBytes = size_t{4} << 20;

// Thread-safe: all members are const and share no mutable state.
class Tokenizer {
 public:
  // Reads `path`, or the bytes of a tokenizer.json. Errors: NOT_FOUND / MODEL_FILE_UNREADABLE,
  // INVALID_ARGUMENT / TOKENIZER_BROKEN (not JSON, a merge that names no token, two tokens with one
  // id, a regular expression that does not compile ...), UNIMPLEMENTED / TOKENIZER_UNSUPPORTED
  // (names the component).
  static absl::StatusOr<std::unique_ptr<Tokenizer>> LoadFile(const std::string& path);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(std::string_view json);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Time O(n log w) for n bytes whose longest word has w. INVALID_ARGUMENT: TEXT_NOT_UTF8 (offset),
  // TEXT_TOO_LONG (over 4 GiB), WORD_TOO_LONG (offset, size; over kMaxWordBytes, or a match of the
  // split expression that needs unreasonable effort).
  absl::StatusOr<std::vector<Token>> Encode(std::string_view text,
                                            const EncodeOptions& options = {}) const;

  // The ids alone; the same errors.
  absl::StatusOr<std::vector<TokenId>> EncodeIds(std::string_view text,
                                                 const EncodeOptions& options = {}) const;

  // The bytes the tokens spell, exactly: part of a character stays part of a character. Without a
  // normaliser, Decode(EncodeIds(x)) == x. Special tokens are spelled out unless `skip_special`.
  // Ids outside the vocabulary spell nothing.
  std::string Decode(std::span<const TokenId> ids, bool skip_special = false) const;

  // The bytes of one token; "" for an id that has none.
  std::string_view TokenBytes(TokenId id) const;

  // The id of an added token's content or of a vocabulary entry as tokenizer.json spells it
  // ("Ġthe").
  std::optional<TokenId> FindToken(std::string_view content) const;

  bool IsSpecial(TokenId id) const;

  // One more than the largest id.
  int32_t vocab_size() const;

  // The most bytes any one token spells: a text of n bytes has at least n / max_token_bytes()
  // tokens (without a normaliser).
  size_t max_token_bytes() const;

  // Whether the text may be changed before it is split.
  bool has_normalizer() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  std::unique_ptr<const Parts> parts_;
};

// Tokens in, whole characters out: for streaming an answer. Bytes that can still become a character
// wait; bytes that no longer can come out as U+FFFD, so that what comes out is always valid UTF-8.
// One per stream, not thread-safe; the tokenizer must outlive it.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer* tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // What the token completes, perhaps "".
  std::string Push(TokenId id);
  // What is left: "" or one U+FFFD for an incomplete character.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace lectern::engine
