#include "base/sigpipe.h"

#include <errno.h>
#include <time.h>

namespace sluice {
namespace {

sigset_t Sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

WithoutSigpipe::WithoutSigpipe() {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  pending_before_ = sigismember(&pending, SIGPIPE) == 1;
  const sigset_t sigpipe = Sigpipe();
  pthread_sigmask(SIG_BLOCK, &sigpipe, &mask_before_);
}

WithoutSigpipe::~WithoutSigpipe() {
  const int error = errno;
  const sigset_t sigpipe = Sigpipe();
  const timespec at_once{};
  // One at most is pending, however many calls failed.
  while (!pending_before_ && sigtimedwait(&sigpipe, nullptr, &at_once) < 0 && errno == EINTR) {
  }
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  errno = error;
}

}  // namespace sluice
