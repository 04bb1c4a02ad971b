// Early return on a status that is not OK. Debian's Abseil has no such macros.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <utility>

// LECTERN_RETURN_IF_ERROR(expression of type absl::Status);
#define LECTERN_RETURN_IF_ERROR(expression)                                   \
  do {                                                                        \
    if (::absl::Status lectern_status = (expression); !lectern_status.ok()) { \
      return lectern_status;                                                  \
    }                                                                         \
  } while (false)

// LECTERN_ASSIGN_OR_RETURN(declaration or lvalue, expression of type absl::StatusOr<T>);
#define LECTERN_ASSIGN_OR_RETURN(lhs, expression) \
  LECTERN_ASSIGN_OR_RETURN_AT(LECTERN_JOIN(lectern_statusor_, __LINE__), lhs, expression)

#define LECTERN_ASSIGN_OR_RETURN_AT(name, lhs, expression) \
  auto name = (expression);                                \
  if (!name.ok()) {                                        \
    return std::move(name).status();                       \
  }                                                        \
  lhs = *std::move(name)

#define LECTERN_JOIN_TOKENS(a, b) a##b
#define LECTERN_JOIN(a, b) LECTERN_JOIN_TOKENS(a, b)
