#include "engine/text/extractor.h"
#include "engine/text/pdf_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

using ::testing::HasSubstr;

ExtractedText Extract(std::string_view bytes, const ExtractRequest& request = {}) {
  absl::StatusOr<ExtractedText> text = ExtractText(bytes, request);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *std::move(text) : ExtractedText{};
}

absl::Status Refused(std::string_view bytes, const ExtractRequest& request = {}) {
  return ExtractText(bytes, request).status();
}

// The source bytes behind the first occurrence of `words` in the extracted text.
std::string SourceOf(std::string_view source, const ExtractedText& text, std::string_view words) {
  const size_t at = text.text.find(words);
  if (at == std::string::npos) return "(not in the text)";
  const SourceRange range = text.map.Map(at, at + words.size());
  return std::string(source.substr(range.begin, range.end - range.begin));
}

TEST(ExtractPlain, ReflowsAndMaps) {
  const std::string source =
      "\xef\xbb\xbf"
      "A title\r\n\r\nLines that\r\n   were   wrapped.\n";
  const ExtractedText text = Extract(source, {.name = "x.txt"});
  EXPECT_EQ(text.text, "A title\nLines that were wrapped.");
  EXPECT_EQ(text.media_type, "text/plain");
  EXPECT_EQ(text.space, SourceSpace::kDocumentBytes);
  EXPECT_EQ(SourceOf(source, text, "that were wrapped"), "that\r\n   were   wrapped");
}

TEST(ExtractPlain, RefusesWhatIsNotText) {
  EXPECT_EQ(ReasonOf(Refused("")), reason::kDocumentEmpty);
  EXPECT_EQ(ReasonOf(Refused(" \n\t\xc2\xa0 \x01")), reason::kDocumentWithoutText);
  const std::string nul("abc\0def", 7);
  EXPECT_EQ(ReasonOf(Refused(nul)), reason::kDocumentBinary);
  EXPECT_EQ(MetadataOf(Refused(nul)).at("offset"), "3");
  const absl::Status bad = Refused("caf\xe9 au lait");
  EXPECT_EQ(ReasonOf(bad), reason::kDocumentNotUtf8);
  EXPECT_EQ(MetadataOf(bad).at("offset"), "3");
  EXPECT_THAT(std::string(bad.message()), HasSubstr("0xe9"));
  EXPECT_EQ(ReasonOf(Refused("PK\x03\x04zip")), reason::kDocumentBinary);
  EXPECT_EQ(ReasonOf(Refused("\xff\xfeh\0i\0")), reason::kDocumentBinary);
  for (const absl::Status& status : {Refused(""), Refused(nul), bad}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(ExtractPlain, ErrorsHoldNoTextOfTheDocument) {
  const absl::Status bad = Refused("secret words \xff");
  EXPECT_EQ(std::string(bad.message()).find("secret"), std::string::npos);
}

TEST(MediaType, GivenOrGuessed) {
  EXPECT_EQ(GuessMediaType("a.PDF", "x"), "application/pdf");
  EXPECT_EQ(GuessMediaType("a", "%PDF-1.7"), "application/pdf");
  EXPECT_EQ(GuessMediaType("a.md", "# x"), "text/markdown");
  EXPECT_EQ(GuessMediaType("a.htm", "x"), "text/html");
  EXPECT_EQ(GuessMediaType("", "\xef\xbb\xbf\n <!DOCTYPE html>"), "text/html");
  EXPECT_EQ(GuessMediaType("notes.txt", "<html> is a tag"), "text/plain");
  EXPECT_EQ(GuessMediaType("README", "words"), "text/plain");
  EXPECT_EQ(Extract("a <b>", {.media_type = "Text/HTML; charset=\"UTF-8\""}).text, "a");
  EXPECT_EQ(ReasonOf(Refused("a", {.media_type = "image/png"})), reason::kMediaTypeUnknown);
  EXPECT_EQ(ReasonOf(Refused("a", {.media_type = "text/plain; charset=latin1"})),
            reason::kMediaTypeUnknown);
  EXPECT_EQ(ReasonOf(Refused("a", {.media_type = ";"})), reason::kMediaTypeUnknown);
}

TEST(ExtractHtml, BlocksBreakAndMarkupGoes) {
  const std::string source =
      "<!DOCTYPE html><html><head><title>T</title><style>p{}</style></head><body>\n"
      "<h1>Head</h1><p>One &amp; two\n three<br>four <b>fi</b>ve</p><script>var x = "
      "'<p>no</p>';</script>"
      "<ul><li>item &eacute;&#233;&#xE9;<li>next</ul><!-- gone "
      "--><table><tr><td>a<td>b</table></body></html>";
  const ExtractedText text = Extract(source);
  EXPECT_EQ(text.media_type, "text/html");
  EXPECT_EQ(text.text, "Head\nOne & two three four five\nitem \xc3\xa9\xc3\xa9\xc3\xa9\nnext\na b");
  EXPECT_EQ(SourceOf(source, text, "One & two three"), "One &amp; two\n three");
  EXPECT_EQ(SourceOf(source, text, "five"), "fi</b>ve");
  EXPECT_EQ(SourceOf(source, text, "\xc3\xa9\xc3\xa9\xc3\xa9"), "&eacute;&#233;&#xE9;");
  EXPECT_EQ(SourceOf(source, text, "next"), "next");
}

TEST(ExtractHtml, HardEntitiesAndLineEndings) {
  const std::string source =
      "<p>a&copy2026 b&notit; c&amp;amp; d & e &unknown; f&lt;g &NotEqualTilde; h\r\ni&nbsp;j &#0; "
      "k<pre>\nfirst</pre>";
  const ExtractedText text = Extract(source, {.media_type = "text/html"});
  EXPECT_EQ(text.text,
            "a\xc2\xa9"
            "2026 b\xc2\xacit; c&amp; d & e &unknown; f<g \xe2\x89\x82\xcc\xb8 h i j \xef\xbf\xbd "
            "k\nfirst");
  EXPECT_EQ(SourceOf(source, text, "\xc2\xa9"), "&copy");
  EXPECT_EQ(SourceOf(source, text, "\xc2\xac"), "&not");
  EXPECT_EQ(SourceOf(source, text, "it; c"), "it; c");
  EXPECT_EQ(SourceOf(source, text, "& e"), "& e");
  EXPECT_EQ(SourceOf(source, text, "&unknown;"), "&unknown;");
  EXPECT_EQ(SourceOf(source, text, "<g"), "&lt;g");
  EXPECT_EQ(SourceOf(source, text, "h i j"), "h\r\ni&nbsp;j");
  EXPECT_EQ(SourceOf(source, text, "k"), "k");
  EXPECT_EQ(SourceOf(source, text, "first"), "first");
}

// Found by tests/fuzz/text_fuzz.
TEST(ExtractHtml, CharacterReferencesOfAnyLengthGiveValidText) {
  for (const char* digits :
       {"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbF", "110000", "d800", "ffffffffd800", "0"}) {
    const ExtractedText text = Extract("<html>a&#x" + std::string(digits) + ";b");
    EXPECT_EQ(FirstInvalidUtf8(text.text), std::string_view::npos) << digits;
    EXPECT_TRUE(text.text.starts_with("a")) << digits;
  }
}

TEST(ExtractHtml, ByteOrderMarkAndMisnestedTables) {
  const std::string source = "\xef\xbb\xbf<table><tr><td>cell</td></tr>stray</table><p>after";
  const ExtractedText text = Extract(source, {.name = "x.html"});
  for (const char* word : {"cell", "stray", "after"}) EXPECT_EQ(SourceOf(source, text, word), word);
}

TEST(ExtractHtml, RandomMarkupNeverMapsAWordWrongly) {
  static const std::string kPieces[] = {
      "<p>",       "</p>",      "<b>",      "</b>",   "<div>", "</div>",
      "<table>",   "</table>",  "<tr>",     "<td>",   "&amp;", "&lt;",
      "&",         "\r\n",      "\n",       " ",      "&copy", "&#65;",
      "<!--c-->",  "<i x='&'>", "</i>",     "<br/>",  "<",     ">",
      "<pre>\n",   "</pre>",    "\xc3\xa9", "&nbsp;", "<a>",   "<select><option>",
      "</select>", "<ul><li>"};
  std::mt19937 random(3);
  for (int round = 0; round < 1500; ++round) {
    std::string source = "<html>";
    int words = 0;
    for (size_t i = random() % 60; i > 0; --i) {
      source += random() % 3 == 0 ? "w" + std::to_string(++words) + "z"
                                  : kPieces[random() % std::size(kPieces)];
    }
    const absl::StatusOr<ExtractedText> text = ExtractText(source, {.media_type = "text/html"});
    if (!text.ok()) {
      ASSERT_EQ(ReasonOf(text.status()), reason::kDocumentWithoutText) << text.status();
      continue;
    }
    ASSERT_EQ(text->map.text_size(), text->text.size());
    ASSERT_LE(text->map.Map(0, text->text.size()).end, source.size());
    for (int word = 1; word <= words; ++word) {
      const std::string name = "w" + std::to_string(word) + "z";
      if (text->text.find(name) == std::string::npos) continue;
      ASSERT_EQ(SourceOf(source, *text, name), name) << source;
    }
  }
}

TEST(ExtractHtml, RefusesBombs) {
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "<div>";
  EXPECT_EQ(ReasonOf(Refused("<html>" + deep + "x")), reason::kHtmlTooDeep);
  // Formatting elements never closed are opened anew in every paragraph.
  std::string multiplying = "<html><p>";
  for (int i = 0; i < 4000; ++i) multiplying += "<b id=" + std::to_string(i) + ">";
  for (int i = 0; i < 40000; ++i) multiplying += "<p>x";
  EXPECT_EQ(ReasonOf(Refused(multiplying)), reason::kHtmlTooDeep);
}

TEST(ExtractHtml, RefusesWhatIsTooLarge) {
  const absl::Status status = Refused("<html>" + std::string(kMaxHtmlBytes, 'x'));
  EXPECT_EQ(ReasonOf(status), reason::kDocumentTooLarge);
  EXPECT_EQ(MetadataOf(status).at("limit"), std::to_string(kMaxHtmlBytes));
}

// A PDF of one line a page, with the cross-reference table that a reader wants.
std::string MakePdf(const std::vector<std::string>& lines) {
  std::string pdf = "%PDF-1.4\n";
  std::vector<size_t> offsets;
  const auto object = [&](const std::string& body) {
    offsets.push_back(pdf.size());
    pdf += std::to_string(offsets.size()) + " 0 obj\n" + body + "\nendobj\n";
  };
  object("<< /Type /Catalog /Pages 2 0 R >>");
  std::string kids;
  for (size_t i = 0; i < lines.size(); ++i) kids += std::to_string(4 + 2 * i) + " 0 R ";
  object("<< /Type /Pages /Kids [" + kids + "] /Count " + std::to_string(lines.size()) + " >>");
  object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>");
  for (size_t i = 0; i < lines.size(); ++i) {
    object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents " +
           std::to_string(5 + 2 * i) + " 0 R /Resources << /Font << /F1 3 0 R >> >> >>");
    const std::string content = "BT /F1 12 Tf 50 700 Td (" + lines[i] + ") Tj ET";
    object("<< /Length " + std::to_string(content.size()) + " >>\nstream\n" + content +
           "\nendstream");
  }
  const size_t table = pdf.size();
  pdf += "xref\n0 " + std::to_string(offsets.size() + 1) + "\n0000000000 65535 f \n";
  for (const size_t offset : offsets) {
    std::string digits = std::to_string(offset);
    pdf += std::string(10 - digits.size(), '0') + digits + " 00000 n \n";
  }
  pdf += "trailer\n<< /Size " + std::to_string(offsets.size() + 1) +
         " /Root 1 0 R >>\nstartxref\n" + std::to_string(table) + "\n%%EOF\n";
  return pdf;
}

TEST(ExtractPdf, TextWithPages) {
  const ExtractedText text =
      Extract(MakePdf({"The kettle is copper", "", "and the lid is tin"}), {.name = "k.pdf"});
  EXPECT_EQ(text.text, "The kettle is copper\nand the lid is tin");
  EXPECT_EQ(text.space, SourceSpace::kExtractedText);
  EXPECT_EQ(text.pages, 3u);
  const size_t tin = text.text.find("tin");
  EXPECT_EQ(text.map.Map(tin, tin + 3), (SourceRange{tin, tin + 3, 3, 3}));
  EXPECT_EQ(text.map.Map(0, text.text.size()), (SourceRange{0, text.text.size(), 1, 3}));
}

TEST(ExtractPdf, RefusesWhatItCannotRead) {
  const std::string pdf = MakePdf({"words"});
  EXPECT_EQ(ReasonOf(Refused("%PDF-1.4\nnothing")), reason::kPdfBroken);
  EXPECT_EQ(ReasonOf(Refused(pdf.substr(0, 60))), reason::kPdfBroken);
  EXPECT_EQ(ReasonOf(Refused("just words", {.media_type = "application/pdf"})), reason::kPdfBroken);
  EXPECT_EQ(ReasonOf(Refused(MakePdf({"", ""}))), reason::kDocumentWithoutText);
  // An encryption dictionary whose password is not the empty one.
  std::string locked = pdf;
  const std::string keys =
      "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O "
      "<0000000000000000000000000000000000000000000000000000000000000000> /U "
      "<0000000000000000000000000000000000000000000000000000000000000000> >> /ID [<00><00>] /Root";
  locked.replace(locked.find("/Root"), 5, keys);
  EXPECT_EQ(ReasonOf(Refused(locked)), reason::kPdfEncrypted) << Refused(locked);
}

// What a file may ask for is not what it gets: beyond a limit it is an error of this one document.
TEST(ExtractPdf, BombsEndAtALimit) {
  const std::string pages = MakePdf(std::vector<std::string>(50, std::string(60, 'x')));
  ASSERT_TRUE(ReadPdfPages(pages).ok());
  EXPECT_EQ(ReasonOf(ReadPdfPages(pages, {.text_bytes = 1000}).status()), reason::kPdfTooComplex);

  const auto with_content = [](const std::string& filter, const std::string& stream) {
    std::string pdf = MakePdf({"words"});
    const size_t begin = pdf.find("<< /Length");
    return pdf.replace(begin, pdf.find("endstream") - begin,
                       "<< " + filter + " /Length " + std::to_string(stream.size()) +
                           " >>\nstream\n" + stream + "\n");
  };
  // Every glyph at a place of its own costs the reader some hundred bytes.
  std::string glyphs;
  for (int i = 0; i < 3000; ++i) {
    glyphs += "BT /F1 1 Tf 1 0 0 1 5 " + std::to_string(10 + i * 0.25) + " Tm (" +
              std::string(100, 'x') + ") Tj ET\n";
  }
#ifndef __SANITIZE_ADDRESS__  // its allocator has its addresses from the start, no limit meets it
  EXPECT_EQ(ReasonOf(ReadPdfPages(with_content("", glyphs), {.memory_bytes = 4 << 20}).status()),
            reason::kPdfTooComplex);
#endif

  // Half a megabyte that unfolds to 128 MiB of drawing, which takes many seconds.
  std::string content;
  const std::string line = "BT /F1 1 Tf 1 0 0 1 5 5 Tm (" + std::string(1000, 'x') + ") Tj ET\n";
  while (content.size() < (size_t{128} << 20)) content += line;
  uLongf size = compressBound(content.size());
  std::string packed(size, '\0');
  ASSERT_EQ(compress(reinterpret_cast<Bytef*>(packed.data()), &size,
                     reinterpret_cast<const Bytef*>(content.data()), content.size()),
            Z_OK);
  packed.resize(size);
  const std::string bomb = with_content("/Filter /FlateDecode", packed);
  EXPECT_EQ(ReasonOf(ReadPdfPages(bomb, {.seconds = 1}).status()), reason::kPdfTooComplex);
  EXPECT_EQ(ReadPdfPages(MakePdf({"still here"}))->size(), 1u);
}

TEST(ExtractPdf, DamagedFilesNeverCrash) {
  const std::string pdf = MakePdf({"some words", "and others"});
  std::mt19937 random(11);
  for (int round = 0; round < 150; ++round) {
    std::string damaged = pdf;
    for (int i = 0; i < 8; ++i)
      damaged[5 + random() % (damaged.size() - 5)] = static_cast<char>(random());
    const absl::StatusOr<ExtractedText> text =
        ExtractText(damaged, {.media_type = "application/pdf"});
    if (text.ok()) {
      EXPECT_EQ(FirstInvalidUtf8(text->text), std::string_view::npos);
    }
  }
}

}  // namespace
}  // namespace lectern::engine
