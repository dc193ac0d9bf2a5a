// The program `sluice`.
#include <signal.h>

#include "app/command_line.h"

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  return sluice::app::RunCommandLine(argc, argv);
}
