// How the command line shows things: text for people, JSON for programs.
#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lectern/v1/answers.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"

namespace lectern::services {

using Json = nlohmann::ordered_json;

// Columns, aligned. Nothing for no rows but the header.
void PrintTable(const std::vector<std::string>& header,
                const std::vector<std::vector<std::string>>& rows);

// As JSON with the .proto files' field names, every field present, and `quote` as text.
Json ToJson(const google::protobuf::Message& message);
void PrintJson(const Json& json);

// "key  value" lines from ToJson's fields.
void PrintFields(const google::protobuf::Message& message);

void PrintEvidence(const google::protobuf::RepeatedPtrField<v1::Evidence>& evidence);
// One line, "context 2 of 6: ..."; nothing where there is but one.
void PrintContext(const v1::Context& context);
void PrintCoverage(const v1::Coverage& coverage);
void PrintUsage(const v1::Usage& usage);

// Text that may come from documents, made harmless for a terminal: control characters but newline
// and tab become '?'.
std::string Printable(std::string_view text);
// The same on one line, runs of blanks joined, cut after `limit` characters.
std::string OneLine(std::string_view text, size_t limit);

// "1,234,567", "1.5 MiB", "2026-11-23 02:50:00", "1.25 s".
std::string Thousands(int64_t number);
std::string Bytes(int64_t bytes);
std::string Time(const google::protobuf::Timestamp& time);
double Seconds(const google::protobuf::Duration& duration);

// A line on stderr that is written over while work goes on; nothing when stderr is no terminal, but
// for the last line.
class Progress {
 public:
  Progress();
  ~Progress();
  void Show(const std::string& text);
  // Keeps `text` as a line of its own.
  void Finish(const std::string& text);

 private:
  const bool terminal_;
  bool open_ = false;
};

// "[#####.....]" of `width` characters.
std::string Bar(int64_t done, int64_t total, int width = 30);

}  // namespace lectern::services
