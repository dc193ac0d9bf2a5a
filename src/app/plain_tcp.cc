#include "app/plain_tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "app/bench_report.h"
#include "base/status.h"

namespace sluice::app {
namespace {

constexpr size_t kWriteBytes = 256 << 10;

absl::Status Failed(const char* what) { return absl::ErrnoToStatus(errno, what); }

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

bool SendAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

bool ReceiveAll(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t got = recv(fd, data, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    data += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

void NoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// Listens on a free port of loopback.
absl::Status Listen(int fd, int* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd, 8) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return Failed("listen on loopback");
  }
  *port = ntohs(address.sin_port);
  return absl::OkStatus();
}

int Connect(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

double ThreadCpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The child, after a fork: system calls and memory that is there.
[[noreturn]] void ServeSink(int listening, char* buffer) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGTERM, SIG_DFL);
  for (;;) {
    const int fd = accept(listening, nullptr, nullptr);
    if (fd < 0) _exit(1);
    const double before = ThreadCpuSeconds();
    uint64_t left = 0;
    bool ok = ReceiveAll(fd, reinterpret_cast<char*>(&left), sizeof left);
    while (ok && left > 0) {
      const ssize_t got = recv(fd, buffer, std::min<uint64_t>(left, kWriteBytes), 0);
      ok = got > 0;
      left -= ok ? static_cast<uint64_t>(got) : 0;
    }
    const double cpu = ThreadCpuSeconds() - before;
    SendAll(fd, reinterpret_cast<const char*>(&cpu), sizeof cpu);
    close(fd);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PlainSink>> PlainSink::Start() {
  const Socket listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int port = 0;
  RETURN_IF_ERROR(Listen(listening.get(), &port));
  std::vector<char> buffer(kWriteBytes, '\1');  // touched: pages of its own
  const pid_t child = fork();
  if (child < 0) return Failed("fork");
  if (child == 0) ServeSink(listening.get(), buffer.data());
  return std::unique_ptr<PlainSink>(new PlainSink(child, port));
}

PlainSink::~PlainSink() {
  kill(child_, SIGKILL);
  while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::StatusOr<PlainSink::Sent> PlainSink::Send(uint64_t bytes) {
  const std::vector<char> buffer(kWriteBytes, 'x');
  const Socket socket(Connect(port_));
  if (socket.get() < 0) return Failed("connect on loopback");
  const double cpu_before = ThreadCpuSeconds();
  const BenchClock::time_point begin = BenchClock::now();
  bool ok = SendAll(socket.get(), reinterpret_cast<const char*>(&bytes), sizeof bytes);
  for (uint64_t left = bytes; ok && left > 0;) {
    const size_t part = std::min<uint64_t>(left, kWriteBytes);
    ok = SendAll(socket.get(), buffer.data(), part);
    left -= part;
  }
  double child_cpu = 0;
  ok = ok && ReceiveAll(socket.get(), reinterpret_cast<char*>(&child_cpu), sizeof child_cpu);
  if (!ok) return absl::UnavailableError("the plain TCP sink ended");
  return Sent{SecondsSince(begin), ThreadCpuSeconds() - cpu_before + child_cpu};
}

absl::StatusOr<std::vector<double>> PlainEcho(size_t bytes, uint64_t count) {
  const Socket listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int port = 0;
  RETURN_IF_ERROR(Listen(listening.get(), &port));
  const Socket near(Connect(port));
  const Socket far(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (near.get() < 0 || far.get() < 0) return Failed("connect on loopback");
  NoDelay(near.get());
  NoDelay(far.get());
  std::thread echo([&far, bytes] {
    std::vector<char> buffer(bytes);
    while (ReceiveAll(far.get(), buffer.data(), bytes) && SendAll(far.get(), buffer.data(), bytes)) {
    }
  });
  std::vector<double> seconds;
  seconds.reserve(count);
  std::vector<char> buffer(bytes, 'x');
  bool ok = true;
  for (uint64_t i = 0; ok && i < count; ++i) {
    const BenchClock::time_point begin = BenchClock::now();
    ok = SendAll(near.get(), buffer.data(), bytes) && ReceiveAll(near.get(), buffer.data(), bytes);
    seconds.push_back(SecondsSince(begin));
  }
  shutdown(near.get(), SHUT_RDWR);
  echo.join();
  if (!ok) return absl::UnavailableError("the plain TCP echo ended");
  return seconds;
}

double MemcpyRate() {
  constexpr size_t kBytes = 128 << 20;
  constexpr int kTimes = 8;
  const std::vector<char> from(kBytes, 'x');
  std::vector<char> to(kBytes, 'y');
  const BenchClock::time_point begin = BenchClock::now();
  for (int i = 0; i < kTimes; ++i) {
    memcpy(to.data(), from.data(), kBytes);
    asm volatile("" ::"r"(to.data()) : "memory");  // each copy counts
  }
  return kTimes * static_cast<double>(kBytes) / SecondsSince(begin);
}

}  // namespace sluice::app
