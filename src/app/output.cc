#include "app/output.h"

#include <errno.h>
#include <stdio_ext.h>
#include <string.h>

#include <cstdio>

namespace sluice::app {
namespace {

constexpr char kReaderGonePayload[] = "sluice.reader-gone";

// Of the first write that failed; 0: none did.
int first_error = 0;

void Keep(bool written) {
  if (written || first_error != 0) return;
  first_error = errno != 0 ? errno : EIO;
  __fpurge(stdout);  // it would be tried again at the end of the process, when nobody can be told
}

}  // namespace

void BeginOutput() {
  clearerr(stdout);
  first_error = 0;
}

void PrintText(std::string_view text) {
  if (first_error != 0) return;
  errno = 0;
  Keep(fwrite(text.data(), 1, text.size(), stdout) == text.size());
}

absl::Status FlushOutput() {
  errno = 0;
  if (first_error == 0) Keep(fflush(stdout) == 0);
  if (first_error == 0) return absl::OkStatus();
  if (first_error == EPIPE) {
    absl::Status gone = absl::CancelledError("the reader of standard output is gone");
    gone.SetPayload(kReaderGonePayload, absl::Cord());
    return gone;
  }
  return absl::UnavailableError(fmt::format("cannot write to standard output: {}", strerror(first_error)));
}

bool IsReaderGone(const absl::Status& status) { return status.GetPayload(kReaderGonePayload).has_value(); }

void PrintError(std::string_view text) {
  (void)fwrite(text.data(), 1, text.size(), stderr);
  (void)fflush(stderr);
}

}  // namespace sluice::app
