#include "app/stream_target.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "absl/container/flat_hash_set.h"
#include "app/bench_report.h"
#include "app/commands.h"
#include "app/echo_message.h"
#include "app/units.h"
#include "base/status.h"
#include "base/strings.h"

namespace sluice::app {
namespace {

constexpr uint64_t kTurnBytes = 64 << 10;           // of one stream before a writer goes on to its next
constexpr uint64_t kPreparedBytes = 256 << 10;      // as much as plain TCP's buffer: both stay in the cache
constexpr uint64_t kPreparedMessagesMax = 1 << 12;  // more would cost more than they spread

}  // namespace

absl::StatusOr<std::unique_ptr<StreamServerChild>> StreamServerChild::Start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const char* arguments[] = {"sluice", "bench", "stream-server", "--listen", "127.0.0.1:0", nullptr};
  const pid_t pid = fork();
  if (pid == 0) {
    // Only what is safe after a fork.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(ends[1], STDOUT_FILENO);
    execv("/proc/self/exe", const_cast<char* const*>(arguments));
    _exit(127);
  }
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return absl::ErrnoToStatus(errno, "fork");
  }
  std::unique_ptr<StreamServerChild> child(new StreamServerChild(pid));
  std::string line;
  char byte = 0;
  while (line.size() < 256 && read(ends[0], &byte, 1) == 1 && byte != '\n') line.push_back(byte);
  close(ends[0]);
  const size_t space = line.rfind(' ');
  if (byte != '\n' || space == std::string::npos) {
    return absl::UnavailableError("`sluice bench stream-server` did not start");
  }
  child->address_ = line.substr(space + 1);
  return child;
}

StreamServerChild::~StreamServerChild() {
  kill(pid_, SIGTERM);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::StatusOr<std::unique_ptr<StreamTarget>> StreamTarget::Open(const std::string& server,
                                                                 size_t connections) {
  auto target = std::make_unique<StreamTarget>();
  target->address_ = server;
  if (server.empty()) {
    ASSIGN_OR_RETURN(target->child_, StreamServerChild::Start());
    target->address_ = target->child_->address();
  } else if (!MovePort(server, 0).ok()) {
    return WrongUsage(fmt::format("--server: \"{}\" is no HOST:PORT", server));
  }
  ChannelOptions options;
  options.timeout_ms = 10'000;
  options.connect_timeout_ms = 5'000;
  for (size_t i = 0; i < connections; ++i) {
    ASSIGN_OR_RETURN(auto channel, Channel::Create(target->address_, options));
    target->channels_.push_back(std::move(channel));
  }
  RETURN_IF_ERROR(target->Stat().status());
  return target;
}

absl::StatusOr<StreamTarget::Cost> StreamTarget::Stat() {
  Controller controller;
  Bytes answer;
  channel(0).Call(kEchoService, kEchoMethod, controller, PackEcho("stat"), &answer);
  if (controller.Failed()) {
    return absl::UnavailableError(
        fmt::format("{}: {} (error {})", address_, controller.ErrorText(), controller.ErrorCode()));
  }
  const std::optional<std::string> text = UnpackEcho(answer);
  Cost cost;
  std::istringstream words(text.value_or(""));
  if (!(words >> cost.cpu_seconds >> cost.resident_bytes)) {
    return absl::UnavailableError(fmt::format(
        "{} is no `sluice bench stream-server`: it does not answer `stat` with two numbers", address_));
  }
  return cost;
}

absl::Status StreamTarget::Call(Channel& channel, Controller& controller, const std::string& text) {
  Bytes answer;
  channel.Call(kEchoService, kEchoMethod, controller, PackEcho(text), &answer);
  if (!controller.Failed()) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("{} does not open streams for {}: {} (error {})", address_, text,
                                            controller.ErrorText(), controller.ErrorCode()));
}

int StreamTally::on_received_messages(StreamId, Bytes* const*, size_t size) {
  absl::MutexLock lock(&mutex_);
  messages_ += size;
  return 0;
}

void StreamTally::on_failed(StreamId, int error_code, const std::string& error_text) {
  Fail(absl::UnavailableError(fmt::format("a stream failed: {} (error {})", error_text, error_code)));
}

void StreamTally::on_closed(StreamId) {
  absl::MutexLock lock(&mutex_);
  ++closed_;
}

void StreamTally::Fail(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  failure_.Update(status);
}

absl::Status StreamTally::AwaitMessages(uint64_t count, absl::Duration patience) {
  const auto over = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return messages_ >= count || closed_ > 0 || !failure_.ok();
  };
  absl::MutexLock lock(&mutex_);
  const bool told = mutex_.AwaitWithTimeout(absl::Condition(&over), patience);
  RETURN_IF_ERROR(failure_);
  if (messages_ >= count) return absl::OkStatus();
  if (!told) return absl::DeadlineExceededError("the server does not say that it has everything");
  return absl::UnavailableError("the server closed a stream too early");
}

void StreamTally::AwaitClosed(uint64_t count) {
  const auto over = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ >= count; };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&over));
}

int WaitWithPatience(StreamId id) {
  const timespec due = absl::ToTimespec(absl::Now() + kBenchPatience);
  return StreamWait(id, &due);
}

absl::StatusOr<std::unique_ptr<SinkStreams>> SinkStreams::Open(StreamTarget& target,
                                                               const SinkOptions& options) {
  std::unique_ptr<SinkStreams> sinks(new SinkStreams(options));
  const uint64_t prepared =
      std::clamp<uint64_t>(kPreparedBytes / options.message_bytes, 1, kPreparedMessagesMax);
  for (uint64_t i = 0; i < prepared; ++i) {
    sinks->messages_.push_back(Bytes::Take(std::string(options.message_bytes, 'x')));
  }
  StreamOptions stream;
  stream.max_buf_size = options.window_bytes;
  stream.handler = &sinks->tally_;
  for (uint32_t i = 0; i < options.streams; ++i) {
    Controller controller;
    StreamId id = kInvalidStreamId;
    if (StreamCreate(&id, controller, &stream) != 0) return absl::InternalError("no stream could be made");
    sinks->ids_.push_back(id);
    RETURN_IF_ERROR(target.Call(target.channel(i), controller,
                                fmt::format("sink:{}", options.message_bytes * options.messages_each)));
  }
  return sinks;
}

SinkStreams::~SinkStreams() {
  for (const StreamId id : ids_) StreamClose(id);
  tally_.AwaitClosed(ids_.size());
}

absl::StatusOr<double> SinkStreams::Run() {
  const BenchClock::time_point begin = BenchClock::now();
  std::vector<std::thread> others;
  StreamIds first;
  for (uint32_t writer = 0; writer < options_.writers; ++writer) {
    StreamIds own;
    for (size_t i = writer; i < ids_.size(); i += options_.writers) own.push_back(ids_[i]);
    if (writer == 0) {
      first = own;
    } else {
      others.emplace_back([this, own] { WriteAll(own); });
    }
  }
  WriteAll(first);
  for (std::thread& thread : others) thread.join();
  RETURN_IF_ERROR(tally_.AwaitMessages(ids_.size()));
  return SecondsSince(begin);
}

bool SinkStreams::WaitForRoom(StreamId id) {
  const int result = WaitWithPatience(id);
  if (result != 0) tally_.Fail(absl::UnavailableError(fmt::format("no room to write: {}", strerror(result))));
  return result == 0;
}

void SinkStreams::WriteAll(const StreamIds& ids) {
  const uint64_t turn = std::max<uint64_t>(1, kTurnBytes / options_.message_bytes);
  std::vector<uint64_t> left(ids.size(), options_.messages_each);
  size_t unfinished = ids.size();
  size_t next_message = 0;
  while (unfinished > 0) {
    bool wrote = false;
    for (size_t i = 0; i < ids.size(); ++i) {
      for (uint64_t k = std::min(turn, left[i]); k > 0; --k) {
        const int result = StreamWrite(ids[i], messages_[next_message]);
        if (result == EAGAIN) break;
        if (result != 0) {
          return tally_.Fail(absl::UnavailableError(fmt::format("cannot write: {}", strerror(result))));
        }
        wrote = true;
        if (++next_message == messages_.size()) next_message = 0;
        if (--left[i] == 0) --unfinished;
      }
    }
    if (wrote || unfinished == 0) continue;
    const auto waiting = std::find_if(left.begin(), left.end(), [](uint64_t count) { return count > 0; });
    if (!WaitForRoom(ids[static_cast<size_t>(waiting - left.begin())])) return;
  }
}

uint64_t SinkStreams::Stalls() const {
  const absl::flat_hash_set<StreamId> own(ids_.begin(), ids_.end());
  uint64_t stalls = 0;
  for (const StreamInfo& info : ListStreams(1 << 16)) {
    if (own.contains(info.id)) stalls += info.stalls;
  }
  return stalls;
}

}  // namespace sluice::app
