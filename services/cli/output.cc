#include "services/cli/output.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "services/cli/client.h"

namespace lectern::services {
namespace {

constexpr size_t kQuoteLimit = 300;

// Puts the text of `quote` in the place of its base64 form, wherever there is evidence.
void ReplaceQuotes(const google::protobuf::RepeatedPtrField<v1::Evidence>& evidence, Json& array) {
  for (int i = 0; i < evidence.size(); ++i) array[i]["quote"] = evidence[i].quote();
}

void ReplaceQuotes(const google::protobuf::Message& message, Json& json) {
  if (const auto* completed = dynamic_cast<const v1::AskResponse::Completed*>(&message)) {
    ReplaceQuotes(completed->evidence(), json["evidence"]);
  } else if (const auto* retrieved = dynamic_cast<const v1::RetrieveResponse*>(&message)) {
    ReplaceQuotes(retrieved->spans(), json["spans"]);
  } else if (const auto* turn = dynamic_cast<const v1::Turn*>(&message)) {
    ReplaceQuotes(turn->evidence(), json["evidence"]);
  }
}

size_t Width(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

void PrintTable(const std::vector<std::string>& header,
                const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::string& title : header) widths.push_back(title.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  const auto print = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] + 2 - Width(row[i]), ' ');
    }
    fmt::print("{}\n", line);
  };
  print(header);
  for (const auto& row : rows) print(row);
}

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return {};
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  ReplaceQuotes(message, json);
  return json;
}

void PrintJson(const Json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

void PrintFields(const google::protobuf::Message& message) {
  const Json json = ToJson(message);
  size_t width = 0;
  for (const auto& [key, value] : json.items()) width = std::max(width, key.size());
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    fmt::print("{:<{}}  {}\n", key, width, Printable(text));
  }
}

void PrintEvidence(const google::protobuf::RepeatedPtrField<v1::Evidence>& evidence) {
  int rank = 0;
  for (const v1::Evidence& span : evidence) {
    std::string place =
        fmt::format("{}:{}-{}", IdOf(span.document()), span.byte_begin(), span.byte_end());
    if (span.page() > 0) place += fmt::format(" (page {})", span.page());
    fmt::print("  {}. {}  {}  share {:.3f}\n     \"{}\"\n", ++rank, place,
               Printable(span.display_name()), span.share(), OneLine(span.quote(), kQuoteLimit));
  }
}

void PrintContext(const v1::Context& context) {
  if (context.context_count() <= 1) return;
  fmt::print("context {} of {}: {} documents, {} to {}, {} tokens\n", context.index(),
             context.context_count(), context.document_count(), IdOf(context.first_document()),
             IdOf(context.last_document()), Thousands(context.token_count()));
}

void PrintCoverage(const v1::Coverage& coverage) {
  fmt::print("coverage {:.4f} (worst row {:.4f}", coverage.mean(), coverage.min_row());
  if (coverage.has_attention()) fmt::print(", attention {:.4f}", coverage.attention());
  if (coverage.has_risk()) fmt::print(", risk of a miss {:.3f}", coverage.risk());
  fmt::print("{})\n", coverage.calibrated() ? "" : ", not calibrated");
  if (coverage.low())
    fmt::print("low coverage: the answer may rest on too little; --adaptive=1 reads more\n");
}

void PrintUsage(const v1::Usage& usage) {
  const std::string guessed =
      usage.accepted_tokens() == 0
          ? ""
          : fmt::format(" ({} guessed)", Thousands(usage.accepted_tokens()));
  fmt::print(
      "tokens: {} cached, {} question, {} answer{}, {} corpus tokens prefilled; first token {:.3f} "
      "s, "
      "total {:.3f} s\n",
      Thousands(usage.cached_tokens()), Thousands(usage.prompt_tokens()),
      Thousands(usage.generated_tokens()), guessed, Thousands(usage.corpus_prefill_tokens()),
      Seconds(usage.time_to_first_token()), Seconds(usage.total_time()));
}

std::string Printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) c = '?';
  }
  return out;
}

std::string OneLine(std::string_view text, size_t limit) {
  std::string out;
  size_t characters = 0;
  bool blank = false;
  for (const char c : Printable(text)) {
    if (c == ' ' || c == '\n' || c == '\t') {
      blank = !out.empty();
      continue;
    }
    const bool begins = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (begins && ++characters > limit) return fmt::format("{}...", out);
    if (blank) out += ' ';
    blank = false;
    out += c;
  }
  return out;
}

std::string Thousands(int64_t number) {
  std::string digits = std::to_string(number);
  const ptrdiff_t first = number < 0 ? 1 : 0;
  for (ptrdiff_t i = static_cast<ptrdiff_t>(digits.size()) - 3; i > first; i -= 3) {
    digits.insert(static_cast<size_t>(i), 1, ',');
  }
  return digits;
}

std::string Bytes(int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string Time(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "-";
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(static_cast<time_t>(time.seconds())));
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) * 1e-9;
}

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (open_) fmt::print(stderr, "\n");
}

void Progress::Show(const std::string& text) {
  if (!terminal_) return;
  fmt::print(stderr, "\r\x1b[K{}", text);
  open_ = true;
}

void Progress::Finish(const std::string& text) {
  fmt::print(stderr, "{}{}\n", open_ ? "\r\x1b[K" : "", text);
  open_ = false;
}

std::string Bar(int64_t done, int64_t total, int width) {
  const int filled =
      total <= 0 ? 0 : static_cast<int>(std::clamp<int64_t>(done * width / total, 0, width));
  return fmt::format("[{}{}]", std::string(filled, '#'), std::string(width - filled, '.'));
}

}  // namespace lectern::services
