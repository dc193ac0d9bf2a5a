// The program `sluice`.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "app/command_line.h"

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  // A descriptor that the caller has closed must not become a socket or a file that output then goes to.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
  return sluice::app::RunCommandLine(argc, argv);
}
