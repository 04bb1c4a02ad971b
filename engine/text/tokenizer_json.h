// Reading the fields of tokenizer.json, with errors that name what is wrong.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace lectern::engine {

// INVALID_ARGUMENT / TOKENIZER_BROKEN: "tokenizer.json: <what>".
absl::Status BrokenTokenizer(std::string_view what);
// UNIMPLEMENTED / TOKENIZER_UNSUPPORTED, naming the component.
absl::Status UnsupportedComponent(std::string_view section, std::string_view type);
// The same for a setting of a component.
absl::Status UnsupportedSetting(std::string_view section, std::string_view setting);

// The "type" of a component; `depth` is how many sequences it is in (a limit stops hostile
// nesting).
absl::StatusOr<std::string> ComponentType(const nlohmann::json& component, std::string_view section,
                                          int depth);

absl::StatusOr<std::string> StringField(const nlohmann::json& object, std::string_view section,
                                        const char* key);
absl::StatusOr<bool> BoolField(const nlohmann::json& object, std::string_view section,
                               const char* key);
// `fallback` when the key is absent or null.
absl::StatusOr<bool> BoolField(const nlohmann::json& object, std::string_view section,
                               const char* key, bool fallback);
absl::StatusOr<const nlohmann::json*> ArrayField(const nlohmann::json& object,
                                                 std::string_view section, const char* key);

// "pattern": {"Regex": r} gives r; {"String": s} gives an expression that matches s as it stands
// ("" for "").
absl::StatusOr<std::string> PatternField(const nlohmann::json& object, std::string_view section);

}  // namespace lectern::engine
