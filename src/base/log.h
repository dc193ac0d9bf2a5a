// Log lines for operators: LogInfo("group {} leads in term {}", id, term).
//
// Nobody waits for whoever reads the lines: they are formatted here and written by a thread of their own. It
// is 4 MiB of lines behind at most; then the oldest go, are counted (sluice_log_lines_dropped_total), and the
// next line says how many. FlushLog waits for what was said so far, a bounded time; it runs at exit() and
// before a failed SLUICE_CHECK aborts. Thread-safe. Where the lines go, and from which level on, is told to
// spdlog's default logger. Text that came from the network goes through Printable() first, so that it can
// neither forge lines nor fill the disk.
#pragma once

#include <spdlog/spdlog.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

namespace base {
// A formatted line, to be written soon.
void QueueLogLine(spdlog::level::level_enum level, std::string line);

template <typename... Args>
void Log(spdlog::level::level_enum level, const fmt::format_string<Args...>& format, Args&&... args) {
  if (!spdlog::should_log(level)) return;
  QueueLogLine(level, fmt::format(format, std::forward<Args>(args)...));
}
}  // namespace base

template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  base::Log(spdlog::level::debug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  base::Log(spdlog::level::info, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarn(fmt::format_string<Args...> format, Args&&... args) {
  base::Log(spdlog::level::warn, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  base::Log(spdlog::level::err, format, std::forward<Args>(args)...);
}

// True once every line queued before the call is written; false if nobody took them within `patience`.
bool FlushLog(std::chrono::milliseconds patience);

// `text` with control characters escaped and cut at 128 bytes.
std::string Printable(std::string_view text);

}  // namespace sluice
