#include "engine/text/extractor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/text/html_text.h"
#include "engine/text/pdf_text.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

constexpr std::string_view kPlain = "text/plain";
constexpr std::string_view kMarkdown = "text/markdown";
constexpr std::string_view kHtml = "text/html";
constexpr std::string_view kPdf = "application/pdf";

// How far into the bytes the first tag is looked for.
constexpr size_t kSniffBytes = 1024;

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\"";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1));
}

// A format that is no text at all, by its first bytes; "" if none is known.
std::string_view BinaryFormat(std::string_view bytes) {
  struct Signature {
    std::string_view bytes;
    std::string_view name;
  };
  static constexpr std::array<Signature, 13> kSignatures = {{
      {"PK\x03\x04", "a ZIP archive (a word processor's file, perhaps: export it as PDF or text)"},
      {"\x1f\x8b", "gzip (unpack it first)"},
      {"BZh", "bzip2 (unpack it first)"},
      {"\xfd"
       "7zXZ",
       "xz (unpack it first)"},
      {"\x28\xb5\x2f\xfd", "Zstandard (unpack it first)"},
      {"7z\xbc\xaf", "a 7-Zip archive (unpack it first)"},
      {"\x89PNG", "a PNG image"},
      {"\xff\xd8\xff", "a JPEG image"},
      {"GIF8", "a GIF image"},
      {"\x7f"
       "ELF",
       "a program"},
      {"\xd0\xcf\x11\xe0", "an old Office document (export it as PDF or text)"},
      {"\xff\xfe", "UTF-16 (convert it to UTF-8)"},
      {"\xfe\xff", "UTF-16 (convert it to UTF-8)"},
  }};
  for (const Signature& signature : kSignatures) {
    if (bytes.starts_with(signature.bytes)) return signature.name;
  }
  return "";
}

absl::Status CheckIsUtf8Text(std::string_view bytes) {
  if (const std::string_view format = BinaryFormat(bytes); !format.empty()) {
    return InvalidArgument(
        reason::kDocumentBinary,
        fmt::format("the document is not text but {}; text, Markdown, HTML and PDF are read",
                    format),
        {{"offset", "0"}});
  }
  if (const size_t nul = bytes.find('\0'); nul != std::string_view::npos) {
    return InvalidArgument(reason::kDocumentBinary,
                           fmt::format("the document holds a NUL byte at byte {}, so it is not "
                                       "text; text, Markdown, HTML and PDF are read",
                                       nul),
                           {{"offset", std::to_string(nul)}});
  }
  if (const size_t bad = FirstInvalidUtf8(bytes); bad != std::string_view::npos) {
    return InvalidArgument(reason::kDocumentNotUtf8,
                           fmt::format("the document is not UTF-8: byte {} (0x{:02x}) cannot stand "
                                       "there; convert it, for example with iconv -t UTF-8",
                                       bad, static_cast<uint8_t>(bytes[bad])),
                           {{"offset", std::to_string(bad)}});
  }
  return absl::OkStatus();
}

// "Text/HTML; charset=utf-8" -> "text/html".
absl::StatusOr<std::string> PlainMediaType(std::string_view given) {
  const size_t semicolon = given.find(';');
  std::string type = Lower(Trim(given.substr(0, semicolon)));
  const auto unknown = [&](std::string_view what) {
    return InvalidArgument(reason::kMediaTypeUnknown,
                           fmt::format("{} is not read here; text/plain, text/markdown, text/html "
                                       "and application/pdf in UTF-8 are, or "
                                       "leave the media type out and it is guessed",
                                       what),
                           {{"media_type", std::string(given)}});
  };
  if (type == "text/x-markdown") type = kMarkdown;
  if (type == "application/xhtml+xml") type = kHtml;
  if (type != kPlain && type != kMarkdown && type != kHtml && type != kPdf) {
    return unknown(fmt::format("media type \"{}\"", type));
  }
  const std::string parameters =
      Lower(semicolon == std::string_view::npos ? "" : given.substr(semicolon + 1));
  if (const size_t at = parameters.find("charset="); at != std::string::npos) {
    const std::string_view rest = std::string_view(parameters).substr(at + 8);
    const std::string charset = Trim(rest.substr(0, rest.find(';')));
    if (charset != "utf-8" && charset != "utf8" && charset != "us-ascii" && type != kPdf) {
      return unknown(fmt::format("character set \"{}\"", charset));
    }
  }
  return type;
}

ExtractedText ExtractPdf(const std::vector<std::string>& pages) {
  // Pages are read as one text, so that a sentence may cross from one to the next.
  std::string joined;
  std::vector<uint64_t> page_begins;
  for (const std::string& page : pages) {
    page_begins.push_back(joined.size());
    joined += page;
    joined += '\f';
  }
  ReflowedText reflowed = Reflow(joined);
  ExtractedText out;
  out.space = SourceSpace::kExtractedText;
  out.pages = static_cast<uint32_t>(pages.size());
  const uint64_t size = reflowed.text.size();
  SourceMap::Builder map;
  uint64_t done = 0;
  for (const uint64_t begin : page_begins) {
    // The first text byte that comes from this page or a later one; origins only grow.
    uint64_t low = done;
    uint64_t high = size;
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2;
      if (reflowed.map.Map(middle, middle + 1).begin < begin) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    map.AddLinear(done, low - done);
    map.StartPage();
    done = low;
  }
  map.AddLinear(done, size - done);
  out.map = std::move(map).Build();
  out.text = std::move(reflowed.text);
  return out;
}

absl::StatusOr<ExtractedText> ExtractHtml(std::string_view bytes) {
  LECTERN_ASSIGN_OR_RETURN(HtmlText html, ReadHtml(bytes));
  ReflowedText reflowed = Reflow(html.text);
  ExtractedText out;
  out.map = reflowed.map.Compose(html.map);
  out.text = std::move(reflowed.text);
  return out;
}

absl::StatusOr<ExtractedText> ExtractAs(std::string_view media_type, std::string_view bytes) {
  if (media_type == kPdf) {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<std::string> pages, ReadPdfPages(bytes));
    return ExtractPdf(pages);
  }
  LECTERN_RETURN_IF_ERROR(CheckIsUtf8Text(bytes));
  if (media_type == kHtml) return ExtractHtml(bytes);
  ReflowedText reflowed = Reflow(bytes);
  ExtractedText out;
  out.text = std::move(reflowed.text);
  out.map = std::move(reflowed.map);
  return out;
}

}  // namespace

std::string GuessMediaType(std::string_view name, std::string_view bytes) {
  if (bytes.starts_with("%PDF-")) return std::string(kPdf);
  const size_t dot = name.rfind('.');
  const std::string ending = dot == std::string_view::npos ? "" : Lower(name.substr(dot + 1));
  if (ending == "pdf") return std::string(kPdf);
  if (ending == "html" || ending == "htm" || ending == "xhtml") return std::string(kHtml);
  if (ending == "md" || ending == "markdown") return std::string(kMarkdown);
  if (ending == "txt" || ending == "text") return std::string(kPlain);
  const std::string_view head = bytes.substr(0, kSniffBytes);
  const size_t begin = head.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  const std::string start = begin == std::string_view::npos ? "" : Lower(head.substr(begin, 15));
  if (start.starts_with("<!doctype html") || start.starts_with("<html")) return std::string(kHtml);
  return std::string(kPlain);
}

absl::StatusOr<ExtractedText> ExtractText(std::string_view bytes, const ExtractRequest& request) {
  if (bytes.empty()) {
    return InvalidArgument(reason::kDocumentEmpty,
                           "the document is empty (0 bytes); upload one with text in it");
  }
  if (bytes.size() > kMaxDocumentBytes) {
    return InvalidArgument(
        reason::kDocumentTooLarge,
        fmt::format("the document has {} bytes, the limit is {}; split it", bytes.size(),
                    kMaxDocumentBytes),
        {{"size", std::to_string(bytes.size())}, {"limit", std::to_string(kMaxDocumentBytes)}});
  }
  std::string media_type;
  if (request.media_type.empty()) {
    media_type = GuessMediaType(request.name, bytes);
  } else {
    LECTERN_ASSIGN_OR_RETURN(media_type, PlainMediaType(request.media_type));
  }
  LECTERN_ASSIGN_OR_RETURN(ExtractedText out, ExtractAs(media_type, bytes));
  if (out.text.empty()) {
    return InvalidArgument(reason::kDocumentWithoutText,
                           media_type == kPdf
                               ? "no text in this PDF: its pages are pictures, perhaps; run it "
                                 "through text recognition (OCR) first"
                               : fmt::format("no text in this document: of its {} bytes ({}) "
                                             "nothing is left but whitespace and markup",
                                             bytes.size(), media_type));
  }
  out.media_type = std::move(media_type);
  return out;
}

}  // namespace lectern::engine
