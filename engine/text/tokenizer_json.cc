#include "engine/text/tokenizer_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

constexpr int kMaxComponentDepth = 8;

absl::StatusOr<const nlohmann::json*> Field(const nlohmann::json& object, std::string_view section,
                                            const char* key) {
  if (!object.is_object() || !object.contains(key)) {
    return BrokenTokenizer(fmt::format("{} has no \"{}\"", section, key));
  }
  return &object.at(key);
}

std::string EscapeRegex(std::string_view literal) {
  std::string escaped;
  for (const char c : literal) {
    if (std::string_view(R"(\.+*?()|[]{}^$#&-~/)").find(c) != std::string_view::npos)
      escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

absl::Status BrokenTokenizer(std::string_view what) {
  return InvalidArgument(reason::kTokenizerBroken, fmt::format("tokenizer.json: {}", what));
}

absl::Status UnsupportedComponent(std::string_view section, std::string_view type) {
  return Error(absl::StatusCode::kUnimplemented, reason::kTokenizerUnsupported,
               fmt::format("tokenizer.json: {} \"{}\" is not supported", section, type),
               {{"component", std::string(type)}});
}

absl::Status UnsupportedSetting(std::string_view section, std::string_view setting) {
  return Error(absl::StatusCode::kUnimplemented, reason::kTokenizerUnsupported,
               fmt::format("tokenizer.json: {} with {} is not supported", section, setting),
               {{"component", std::string(section)}});
}

absl::StatusOr<std::string> ComponentType(const nlohmann::json& component, std::string_view section,
                                          int depth) {
  if (depth > kMaxComponentDepth) {
    return UnsupportedSetting(section,
                              fmt::format("sequences nested over {} deep", kMaxComponentDepth));
  }
  return StringField(component, section, "type");
}

absl::StatusOr<std::string> StringField(const nlohmann::json& object, std::string_view section,
                                        const char* key) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* field, Field(object, section, key));
  if (!field->is_string())
    return BrokenTokenizer(fmt::format("{}.{} is not a string", section, key));
  return field->get<std::string>();
}

absl::StatusOr<bool> BoolField(const nlohmann::json& object, std::string_view section,
                               const char* key) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* field, Field(object, section, key));
  if (!field->is_boolean())
    return BrokenTokenizer(fmt::format("{}.{} is not true or false", section, key));
  return field->get<bool>();
}

absl::StatusOr<bool> BoolField(const nlohmann::json& object, std::string_view section,
                               const char* key, bool fallback) {
  if (!object.is_object() || !object.contains(key) || object.at(key).is_null()) return fallback;
  return BoolField(object, section, key);
}

absl::StatusOr<const nlohmann::json*> ArrayField(const nlohmann::json& object,
                                                 std::string_view section, const char* key) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* field, Field(object, section, key));
  if (!field->is_array()) return BrokenTokenizer(fmt::format("{}.{} is not a list", section, key));
  return field;
}

absl::StatusOr<std::string> PatternField(const nlohmann::json& object, std::string_view section) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json* pattern, Field(object, section, "pattern"));
  if (pattern->is_object() && pattern->contains("Regex"))
    return StringField(*pattern, section, "Regex");
  if (pattern->is_object() && pattern->contains("String")) {
    LECTERN_ASSIGN_OR_RETURN(const std::string literal, StringField(*pattern, section, "String"));
    return EscapeRegex(literal);
  }
  return BrokenTokenizer(fmt::format("{}.pattern is neither a Regex nor a String", section));
}

}  // namespace lectern::engine
