// Errors are values: absl::Status everywhere, and the two macros that pass them on.
//
//   absl::StatusOr<Bytes> Load(...) {
//     RETURN_IF_ERROR(Check());
//     ASSIGN_OR_RETURN(Bytes data, Read());
//     return data;
//   }
//
// A message names the thing and the numbers ("append at 4096 to upload 17: expected offset 2048") and never
// contains payload bytes. No exception crosses a function boundary of ours.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"

#define RETURN_IF_ERROR(expr)                        \
  do {                                               \
    absl::Status sluice_status_ = (expr);            \
    if (!sluice_status_.ok()) return sluice_status_; \
  } while (false)

#define SLUICE_CONCAT_INNER(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(lhs, expr) SLUICE_ASSIGN_OR_RETURN(SLUICE_CONCAT(sluice_or_, __LINE__), lhs, expr)
#define SLUICE_ASSIGN_OR_RETURN(temporary, lhs, expr) \
  auto temporary = (expr);                            \
  if (!temporary.ok()) return temporary.status();     \
  lhs = std::move(temporary).value()
