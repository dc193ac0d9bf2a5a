// A line that moves while bytes do: share, rate and time left. Silent when standard error is no terminal.
//
//   Progress progress("tools/git", length);  progress.Show(taken);  progress.Clear();
//
// Threading: one thread at a time. Drawn at most ten times a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace sluice::app {

class Progress {
 public:
  Progress(std::string name, uint64_t length);
  ~Progress() { Clear(); }
  void Show(uint64_t taken);
  void Clear();
  // Prints a line of its own above the bar.
  void Note(const std::string& text);
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  const std::string name_;
  const uint64_t length_;
  const bool terminal_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_{};
  bool shown_ = false;
};

}  // namespace sluice::app
