#include "engine/answer/turn_record.h"

#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/error/reason.h"

namespace lectern::engine {
namespace {

constexpr int kFormat = 1;

using nlohmann::json;

json ToJson(const Evidence& e) {
  return {{"document", e.document},
          {"display_name", e.display_name},
          {"byte_begin", e.byte_begin},
          {"byte_end", e.byte_end},
          {"page", e.page},
          {"quote", e.quote},
          {"mass", e.mass},
          {"share", e.share},
          {"block", e.block}};
}

Evidence EvidenceFrom(const json& j) {
  return {.document = j.at("document"),
          .display_name = j.at("display_name"),
          .byte_begin = j.at("byte_begin"),
          .byte_end = j.at("byte_end"),
          .page = j.at("page"),
          .quote = j.at("quote"),
          .mass = j.at("mass"),
          .share = j.at("share"),
          .block = j.at("block")};
}

json ToJson(const Usage& u) {
  return {{"cached_tokens", u.cached_tokens},
          {"prompt_tokens", u.prompt_tokens},
          {"generated_tokens", u.generated_tokens},
          {"corpus_prefill_tokens", u.corpus_prefill_tokens},
          {"disk_bytes", u.disk_bytes},
          {"memory_bytes", u.memory_bytes},
          {"queue_time_us", u.queue_time_us},
          {"time_to_first_token_us", u.time_to_first_token_us},
          {"total_time_us", u.total_time_us},
          {"selections", u.selections},
          {"selected_blocks", u.selected_blocks},
          {"widened_selections", u.widened_selections},
          {"drafted_tokens", u.drafted_tokens},
          {"accepted_tokens", u.accepted_tokens}};
}

Usage UsageFrom(const json& j) {
  return {.cached_tokens = j.at("cached_tokens"),
          .prompt_tokens = j.at("prompt_tokens"),
          .generated_tokens = j.at("generated_tokens"),
          .corpus_prefill_tokens = j.at("corpus_prefill_tokens"),
          .disk_bytes = j.at("disk_bytes"),
          .memory_bytes = j.at("memory_bytes"),
          .queue_time_us = j.at("queue_time_us"),
          .time_to_first_token_us = j.at("time_to_first_token_us"),
          .total_time_us = j.at("total_time_us"),
          // Absent from turns that an earlier version stored.
          .selections = j.value("selections", int64_t{0}),
          .selected_blocks = j.value("selected_blocks", int64_t{0}),
          .widened_selections = j.value("widened_selections", int64_t{0}),
          .drafted_tokens = j.value("drafted_tokens", int64_t{0}),
          .accepted_tokens = j.value("accepted_tokens", int64_t{0})};
}

json ToJson(const Coverage& c) {
  json out = {{"mean", c.mean}, {"lower", c.lower}, {"upper", c.upper}, {"min_row", c.min_row}};
  if (c.calibrated) out["low"] = c.low;
  if (c.attention.has_value()) out["attention"] = *c.attention;
  if (c.risk.has_value()) out["risk"] = *c.risk;
  return out;
}

Coverage CoverageFrom(const json& j) {
  Coverage c = {.mean = j.at("mean"),
                .lower = j.at("lower"),
                .upper = j.at("upper"),
                .min_row = j.at("min_row"),
                .calibrated = j.contains("low"),
                .low = j.value("low", false)};
  if (j.contains("attention")) c.attention = j.at("attention").get<double>();
  if (j.contains("risk")) c.risk = j.at("risk").get<double>();
  return c;
}

}  // namespace

std::string TurnRecord::Serialize() const {
  json evidence = json::array();
  for (const Evidence& e : turn.answer.evidence) evidence.push_back(ToJson(e));
  const json record = {
      {"format", kFormat},
      {"number", turn.number},
      {"question", turn.question},
      {"answer", turn.answer.text},
      {"max_tokens_reached", turn.answer.finish_reason == FinishReason::kMaxTokens},
      {"not_in_documents", turn.answer.not_in_documents},
      {"evidence", evidence},
      {"coverage", ToJson(turn.answer.coverage)},
      {"usage", ToJson(turn.answer.usage)},
      {"create_time_us", turn.create_time_us},
      {"tail_tokens", tail_tokens}};
  return record.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<TurnRecord> TurnRecord::Parse(const std::string& bytes) {
  try {
    const json j = json::parse(bytes);
    if (j.at("format").get<int>() > kFormat) {
      return Error(absl::StatusCode::kFailedPrecondition, reason::kStoredFormatNewer,
                   "a turn was stored by a newer version: update this server");
    }
    TurnRecord record;
    record.turn.number = j.at("number");
    record.turn.question = j.at("question");
    record.turn.create_time_us = j.at("create_time_us");
    Answer& answer = record.turn.answer;
    answer.text = j.at("answer");
    answer.turn = record.turn.number;
    answer.finish_reason =
        j.at("max_tokens_reached").get<bool>() ? FinishReason::kMaxTokens : FinishReason::kStop;
    answer.not_in_documents = j.at("not_in_documents");
    for (const json& e : j.at("evidence")) answer.evidence.push_back(EvidenceFrom(e));
    answer.coverage = CoverageFrom(j.at("coverage"));
    answer.usage = UsageFrom(j.at("usage"));
    record.tail_tokens = j.at("tail_tokens").get<std::vector<int32_t>>();
    return record;
  } catch (const json::exception& e) {
    return Error(absl::StatusCode::kDataLoss, reason::kStoredBytesCorrupt,
                 std::string("a stored turn cannot be read: ") + e.what());
  }
}

}  // namespace lectern::engine
