// text/html -> running text with line breaks where blocks break, before reflowing.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "engine/text/source_map.h"

namespace lectern::engine {

struct HtmlText {
  std::string text;  // UTF-8; two newlines between blocks
  SourceMap map;     // text -> bytes of the HTML
};

// `html` must be valid UTF-8 without NUL. Parsed as a browser does (HTML 5), so broken markup is
// read as a reader sees it. Left out: head, script, style, template, noscript and the like,
// comments, attributes. An entity is one unit of the map. Errors, INVALID_ARGUMENT: HTML_TOO_DEEP,
// also when the parser asks for more than kHtmlMemoryPerByte bytes of memory a byte of input
// (markup made to multiply).
absl::StatusOr<HtmlText> ReadHtml(std::string_view html);

// Ordinary pages need 10 to 30.
inline constexpr size_t kHtmlMemoryPerByte = 128;
// And no page may have more: that of an ordinary one of the largest size (kMaxHtmlBytes).
inline constexpr size_t kMaxHtmlMemory = size_t{1} << 30;

}  // namespace lectern::engine
