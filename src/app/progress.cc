#include "app/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "app/output.h"
#include "app/units.h"

namespace sluice::app {

Progress::Progress(std::string name, uint64_t length)
    : name_(std::move(name)), length_(length), terminal_(isatty(STDERR_FILENO) == 1) {}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

void Progress::Show(uint64_t taken) {
  const Clock::time_point now = Clock::now();
  if (!terminal_ || now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  shown_ = true;
  constexpr size_t kWidth = 24;
  const double share =
      length_ == 0 ? 1 : static_cast<double>(std::min(taken, length_)) / static_cast<double>(length_);
  const double rate = static_cast<double>(taken) / std::max(seconds(), 1e-3);
  const double left = rate > 0 ? static_cast<double>(length_ - std::min(taken, length_)) / rate : 0;
  const auto full = static_cast<size_t>(share * kWidth);
  PrintError(fmt::format("\r\x1b[K{:.40} [{}{}] {:3.0f} %  {}  {} left", name_, std::string(full, '#'),
                         std::string(kWidth - full, '.'), share * 100, FormatRate(rate),
                         FormatSeconds(left)));
}

void Progress::Clear() {
  if (!std::exchange(shown_, false)) return;
  PrintError("\r\x1b[K");
}

void Progress::Note(const std::string& text) {
  Clear();
  PrintError(text + "\n");
}

}  // namespace sluice::app
