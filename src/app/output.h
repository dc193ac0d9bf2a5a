// The one way to standard output of every command: what could not be written is never lost silently.
//
//   Print("{:>10}  {}\n", size, name);
//   RETURN_IF_ERROR(FlushOutput());       // between pages of what is long: a reader that is gone ends it
//
// Print keeps the first error and drops what comes after it; RunCommandLine flushes at the end of every
// command, so that a full device is exit code 1 and a line on standard error. A reader that has closed its end
// (`sluice ls | head`) wants no more: IsReaderGone tells it apart, and the command ends quietly.
// Threading: one thread at a time.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "base/status.h"

namespace sluice::app {

// Forgets the error of an earlier command.
void BeginOutput();
void PrintText(std::string_view text);
template <typename... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  PrintText(fmt::format(format, std::forward<Args>(args)...));
}
// Everything printed so far is written, or the first error.
absl::Status FlushOutput();
bool IsReaderGone(const absl::Status& status);

// To standard error, as far as it takes it: a message that nobody can read is no reason to fail.
void PrintError(std::string_view text);

}  // namespace sluice::app
