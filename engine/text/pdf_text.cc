#include "engine/text/pdf_text.h"

#include <fmt/format.h>
#include <poppler-document.h>
#include <poppler-global.h>
#include <poppler-page.h>

#include <limits>
#include <memory>
#include <mutex>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

// Poppler reports every oddity of a file to stderr unless told otherwise; what matters comes back
// as a Status.
void SilencePopplerOnce() {
  static std::once_flag once;
  std::call_once(
      once, [] { poppler::set_debug_error_function([](const std::string&, void*) {}, nullptr); });
}

std::string ToUtf8(const poppler::ustring& utf16) {
  constexpr char32_t kReplacement = 0xfffd;
  std::string out;
  out.reserve(utf16.size());
  for (size_t i = 0; i < utf16.size(); ++i) {
    const char32_t unit = utf16[i];
    if (unit < 0xd800 || unit > 0xdfff) {
      AppendUtf8(unit, &out);
      continue;
    }
    const char32_t next = i + 1 < utf16.size() ? utf16[i + 1] : 0;
    if (unit < 0xdc00 && next >= 0xdc00 && next <= 0xdfff) {
      AppendUtf8(0x10000 + ((unit - 0xd800) << 10) + (next - 0xdc00), &out);
      ++i;
    } else {
      AppendUtf8(kReplacement, &out);
    }
  }
  return out;
}

absl::Status Broken(std::string_view what) {
  return InvalidArgument(
      reason::kPdfBroken,
      fmt::format(
          "cannot read this PDF: {}; repair it (for example by printing it to a new PDF) or "
          "upload its text",
          what));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadPdfPagesHere(std::string_view pdf) {
  SilencePopplerOnce();
  if (pdf.size() > static_cast<size_t>(std::numeric_limits<int>::max()))
    return Broken("it is over 2 GiB");
  const std::unique_ptr<poppler::document> document(
      poppler::document::load_from_raw_data(pdf.data(), static_cast<int>(pdf.size())));
  if (document == nullptr) return Broken("it has no valid structure");
  if (document->is_locked()) {
    return InvalidArgument(reason::kPdfEncrypted,
                           "this PDF is encrypted and needs a password; upload a copy without one");
  }
  if (document->pages() <= 0) return Broken("it has no pages");
  std::vector<std::string> pages;
  pages.reserve(document->pages());
  for (int i = 0; i < document->pages(); ++i) {
    const std::unique_ptr<poppler::page> page(document->create_page(i));
    // A page that cannot be read leaves a hole in the text that no answer would mention.
    if (page == nullptr)
      return Broken(fmt::format("page {} of {} is damaged", i + 1, document->pages()));
    pages.push_back(
        ToUtf8(page->text(poppler::rectf(), poppler::page::non_raw_non_physical_layout)));
  }
  return pages;
}

}  // namespace lectern::engine
