// Writes to sockets and pipes whose reader may go away: an error, and never the end of the process.
//
//   const WithoutSigpipe quiet;
//   const ssize_t sent = sendfile(socket, fd, &offset, count);   // at worst EPIPE
//
// For calls that have no MSG_NOSIGNAL. What SIGPIPE does belongs to the program that embeds this library, and by
// default it ends that program. Threading: of the thread that made it, on which it also ends; others notice nothing.
// It leaves the signal mask, a SIGPIPE that was pending before, and errno as they were.
#pragma once

#include <signal.h>

namespace sluice {

class WithoutSigpipe {
 public:
  WithoutSigpipe();
  ~WithoutSigpipe();
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;

 private:
  sigset_t mask_before_;
  bool pending_before_ = false;
};

}  // namespace sluice
