#include "base/log.h"

#include <pthread.h>
#include <spdlog/details/os.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "base/metrics.h"
#include "base/sigpipe.h"
#include "base/strings.h"

namespace sluice {
namespace {

constexpr size_t kQueuedBytesMax = 4u << 20;
constexpr size_t kLineCost = 128;  // beside its text
constexpr auto kPatienceAtExit = std::chrono::milliseconds(1000);

struct Line {
  spdlog::level::level_enum level;
  spdlog::log_clock::time_point time;
  size_t thread_id;
  std::string text;
};

// Never destroyed, because lines may be queued until the process is gone; nor joined, because its thread may
// hang in a write that nobody will ever take.
class LineQueue {
 public:
  static LineQueue& Get() {
    static LineQueue& queue = *new LineQueue;
    return queue;
  }

  void Add(Line line) {
    std::lock_guard lock(mutex_);
    bytes_ += line.text.size() + kLineCost;
    lines_.push_back(std::move(line));
    ++added_;
    while (bytes_ > kQueuedBytesMax && lines_.size() > 1) {
      bytes_ -= lines_.front().text.size() + kLineCost;
      lines_.pop_front();
      ++dropped_;
      dropped_counter_.Increment();
    }
    there_is_work_.notify_one();
  }

  bool Flush(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    const uint64_t upto = added_;
    return written_some_.wait_for(lock, patience, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return added_ - lines_.size() - (writing_ ? 1 : 0) >= upto;
    });
  }

 private:
  LineQueue() {
    // Before the handler below is registered, hence destroyed after it has run.
    (void)spdlog::default_logger();
    std::thread([this] { Run(); }).detach();
    std::atexit([] { FlushLog(kPatienceAtExit); });
  }

  void Run() {
    pthread_setname_np(pthread_self(), "log-lines");
    const WithoutSigpipe quiet;  // a host whose standard output nobody reads any more goes on
    while (true) {
      std::unique_lock lock(mutex_);
      there_is_work_.wait(lock, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !lines_.empty(); });
      Line line = std::move(lines_.front());
      lines_.pop_front();
      bytes_ -= line.text.size() + kLineCost;
      const uint64_t dropped = std::exchange(dropped_, 0);
      writing_ = true;
      lock.unlock();
      if (dropped > 0) {
        Write({spdlog::level::warn, line.time, line.thread_id,
               fmt::format("{} log lines were dropped: nobody took them in time", dropped)});
      }
      Write(line);
      lock.lock();
      writing_ = false;
      written_some_.notify_all();
    }
  }

  void Write(const Line& line) {
    const std::shared_ptr<spdlog::logger> logger = spdlog::default_logger();
    if (logger == nullptr) return;
    spdlog::details::log_msg message(line.time, {}, logger->name(), line.level, line.text);
    message.thread_id = line.thread_id;
    for (const spdlog::sink_ptr& sink : logger->sinks()) {
      if (!sink->should_log(line.level)) continue;
      // Not through stdio: what it could not write would hold up the end of the process.
      if (dynamic_cast<spdlog::sinks::ansicolor_stdout_sink_mt*>(sink.get()) != nullptr && !is_terminal_) {
        WritePlain(message);
        continue;
      }
      sink->log(message);
      sink->flush();
    }
  }

  void WritePlain(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t text;
    formatter_.format(message, text);
    for (size_t at = 0; at < text.size();) {
      const ssize_t wrote = ::write(STDOUT_FILENO, text.data() + at, text.size() - at);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return;
      at += static_cast<size_t>(wrote);
    }
  }

  const bool is_terminal_ = isatty(STDOUT_FILENO) == 1;
  spdlog::pattern_formatter formatter_;
  Counter& dropped_counter_ =
      NewCounter("sluice_log_lines_dropped_total", "Log lines that nobody took in time");

  std::mutex mutex_;
  std::condition_variable there_is_work_;
  std::condition_variable written_some_;
  std::deque<Line> lines_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t added_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;  // since the last line that said so
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

void base::QueueLogLine(spdlog::level::level_enum level, std::string line) {
  LineQueue::Get().Add({level, spdlog::log_clock::now(), spdlog::details::os::thread_id(), std::move(line)});
}

bool FlushLog(std::chrono::milliseconds patience) { return LineQueue::Get().Flush(patience); }

std::string Printable(std::string_view text) {
  constexpr size_t kPrintableBytesMax = 128;
  std::string out = absl::Utf8SafeCEscape(ToAbsl(text.substr(0, kPrintableBytesMax)));
  if (text.size() > kPrintableBytesMax) out += "…";
  return out;
}

}  // namespace sluice
