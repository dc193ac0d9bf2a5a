#include "base/check.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/log.h"
#include "base/sigpipe.h"

namespace sluice::base {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(500);

// Of a pipe that nobody reads not even the end of the process may depend.
void Say(std::string text) {
  constexpr size_t kSureBytes = 4096;  // PIPE_BUF: taken whole by a pipe that is ready
  text.resize(std::min(text.size(), kSureBytes - 1));
  text += '\n';
  pollfd standard_error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&standard_error, 1, static_cast<int>(kPatience.count())) != 1) return;
  const WithoutSigpipe quiet;  // it ends by abort, with a core, whoever reads
  [[maybe_unused]] const ssize_t wrote = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

CheckFailure::CheckFailure(const char* file, int line, const char* condition) {
  stream_ << file << ":" << line << ": check failed: " << condition << " ";
}

CheckFailure::~CheckFailure() {
  FlushLog(kPatience);
  Say(stream_.str());
  std::abort();
}

}  // namespace sluice::base
