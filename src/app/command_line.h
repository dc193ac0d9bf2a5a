// The program `sluice` as a function: one command line, its commands in the files beside this one.
//
//   int main(int argc, char** argv) { return sluice::app::RunCommandLine(argc, argv); }
//
// One thread at a time; blocks until the command is over. Failure: one line on standard error; the result is
// the exit code: 0 success, 1 failed, 2 wrong usage.
#pragma once

namespace sluice::app {

int RunCommandLine(int argc, const char* const* argv);

}  // namespace sluice::app
