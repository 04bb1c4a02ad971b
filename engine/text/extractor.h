// Bytes of a document -> its text, and the map back.
//
// Every text is reflowed (see Reflow): hard line breaks become spaces, blank lines paragraph
// breaks, so that a sentence reads the same however it was wrapped. What is extracted is versioned:
// a cache made with another version is another cache.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/text/source_map.h"

namespace lectern::engine {

// Part of the model fingerprint. Raise it with any change that can change one byte of any text or
// one offset of any map.
inline constexpr uint32_t kTextExtractorVersion = 1;

// One document may be at most this large (4 GiB less one: token offsets are 32-bit).
inline constexpr uint64_t kMaxDocumentBytes = 0xffffffff;

// Nested deeper than this, an HTML document is refused: it is no text that a person wrote.
inline constexpr int kMaxHtmlDepth = 4096;

// An HTML document may be at most this large: its parsed form takes many times its size.
inline constexpr uint64_t kMaxHtmlBytes = uint64_t{32} << 20;

// What a source range of this document's map addresses.
enum class SourceSpace {
  // The uploaded bytes: text/plain, text/markdown, text/html. Source[begin, end) holds the quoted
  // words as they were written; in HTML with the markup and the entities between them.
  kDocumentBytes,
  // The extracted text itself: application/pdf. A PDF places glyphs with drawing operators in
  // compressed streams, so no byte range of the file is "the words". The range addresses
  // ExtractedText::text, and the page number says where to look in the file.
  kExtractedText,
};

struct ExtractRequest {
  // "text/plain", "text/markdown", "text/html" or "application/pdf"; a parameter such as charset
  // may follow (one other than UTF-8 or US-ASCII is refused). Empty: GuessMediaType(name, bytes).
  std::string_view media_type;
  // The document's file or display name; only its ending is looked at.
  std::string_view name;
};

struct ExtractedText {
  std::string text;  // UTF-8, reflowed, not empty
  SourceMap map;     // text -> source, in `space`
  SourceSpace space = SourceSpace::kDocumentBytes;
  std::string media_type;  // without parameters
  uint32_t pages = 0;      // 0: not a paged format
};

// Thread-safe. Time and memory are linear in bytes.size(), but for PDF, whose streams may be
// compressed. Errors, all INVALID_ARGUMENT, metadata in parentheses:
//   DOCUMENT_EMPTY: no bytes
//   DOCUMENT_TOO_LARGE: over kMaxDocumentBytes, HTML over kMaxHtmlBytes (size, limit)
//   DOCUMENT_BINARY: a NUL byte, or a binary format's signature (offset)
//   DOCUMENT_NOT_UTF8: not UTF-8 (offset, of the first byte that cannot stand there)
//   DOCUMENT_WITHOUT_TEXT: nothing left, as of blanks or a scanned PDF
//   MEDIA_TYPE_UNKNOWN: a media type or charset that is not read here (media_type)
//   HTML_TOO_DEEP: nested over kMaxHtmlDepth, or made to multiply when parsed
//   PDF_ENCRYPTED: needs a password
//   PDF_BROKEN: not a PDF, or damaged beyond reading
//   PDF_TOO_COMPLEX: takes more memory or time than engine/text/pdf_text.h allows
absl::StatusOr<ExtractedText> ExtractText(std::string_view bytes, const ExtractRequest& request);

// A media type by the first bytes (PDF and HTML signatures) and the name's ending; "text/plain"
// when nothing says otherwise.
std::string GuessMediaType(std::string_view name, std::string_view bytes);

struct ReflowedText {
  std::string text;
  SourceMap map;  // text -> the bytes given
};

// Reflow, version 1. `utf8` must be valid UTF-8 (FirstInvalidUtf8). Newlines are LF, CR, CRLF (one)
// and FF; blanks are space, TAB, VT and U+00A0. A run of both becomes LF if it holds two newlines
// or more, else one space; runs at either end and a byte order mark at the start are dropped, as
// are the other control characters (U+0000-001F, U+007F-009F), wherever they are. A dropped control
// character is as if it were not there: inside a run of whitespace it does not end the run. Titles
// are reflowed, too.
ReflowedText Reflow(std::string_view utf8);

}  // namespace lectern::engine
