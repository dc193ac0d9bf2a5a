// The limit that a put and a get are measured against: plain processes, sockets and files, nothing else.
//
//   chain_floor --mode chain --mib 1024 --dir build [--no-sync]   client -> p0 -> p1 -> p2,
//                                                                 each writes its file
//   chain_floor --mode star  --mib 1024 --dir build [--no-sync]   client -> p0, and p0 -> p1 and p2
//   chain_floor --mode read  --mib 1024 --dir build               one server reads a file from the page cache
//                                                                 -> client
//
// Every process moves 256 KiB at a time with blocking calls. With sync, each writer starts write-back every 8
// MiB and ends with one fdatasync; a server acknowledges when its own file and all files behind it are done.
// Prints one JSON object: rate in MB/s (10^6), CPU seconds of all processes together,
// and those per GiB of payload.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

constexpr size_t kBufferBytes = 256u << 10;
constexpr uint64_t kWritebackBytes = 8u << 20;
constexpr int kServers = 3;

struct Options {
  std::string mode = "chain";
  std::string dir = ".";
  uint64_t mib = 1024;
  bool sync = true;
  uint64_t bytes() const { return mib << 20; }
};

[[noreturn]] void Die(std::string_view what) {
  std::fprintf(stderr, "chain_floor: %.*s: %s\n", static_cast<int>(what.size()), what.data(),
               std::strerror(errno));
  std::exit(1);
}

class Fd {
 public:
  explicit Fd(int fd, std::string_view what) : fd_(fd) {
    if (fd < 0) Die(what);
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

void WriteAll(const Fd& fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t wrote = ::write(fd.get(), data, size);
    if (wrote < 0 && errno != EINTR) Die("write");
    if (wrote > 0) {
      data += wrote;
      size -= static_cast<size_t>(wrote);
    }
  }
}

// Gives 0 only at the end.
size_t ReadSome(const Fd& fd, char* data, size_t size) {
  for (;;) {
    const ssize_t got = ::read(fd.get(), data, size);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) Die("read");
  }
}

// ---- sockets: every listener exists before the first fork, so a connect never has to wait or retry

struct Listener {
  Fd fd;
  sockaddr_in address;
};

Listener Listen() {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(fd.get(), 1) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    Die("listen");
  }
  return {std::move(fd), address};
}

Fd NoDelay(Fd fd) {
  const int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return fd;
}

Fd Connect(const Listener& to) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.address), sizeof(to.address)) != 0)
    Die("connect");
  return NoDelay(std::move(fd));
}

Fd Accept(const Listener& at) {
  return NoDelay(Fd(::accept4(at.fd.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}

// ---- servers

// A server's file: made before the first fork, so that a folder
// which cannot be written is found before anyone waits.
class File {
 public:
  File(const Options& options, int server)
      : name_(options.dir + "/chain_floor." + std::to_string(::getpid()) + "." + std::to_string(server)),
        fd_(::open(name_.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600), name_) {}
  void Remove() const { ::unlink(name_.c_str()); }
  const Fd& fd() const { return fd_; }

 private:
  std::string name_;
  Fd fd_;
};

// Who comes after a server: the next one in a chain, all others after the first in a star.
std::vector<int> Successors(const Options& options, int server) {
  if (options.mode == "chain") return server + 1 < kServers ? std::vector{server + 1} : std::vector<int>{};
  return server == 0 ? std::vector{1, 2} : std::vector<int>{};
}

void StoreAndForward(const Options& options, int server, const Fd& file,
                     const std::vector<Listener>& listeners) {
  std::vector<Fd> next;
  for (const int successor : Successors(options, server)) {
    next.push_back(Connect(listeners[static_cast<size_t>(successor)]));
  }
  const Fd from = Accept(listeners[static_cast<size_t>(server)]);
  std::vector<char> buffer(kBufferBytes);
  uint64_t written = 0;
  uint64_t started = 0;  // bytes whose write-back was asked for
  while (written < options.bytes()) {
    const size_t got = ReadSome(from, buffer.data(), buffer.size());
    if (got == 0) Die("the sender went away");
    for (const Fd& fd : next) WriteAll(fd, buffer.data(), got);
    WriteAll(file, buffer.data(), got);
    written += got;
    if (options.sync && written - started >= kWritebackBytes) {
      ::sync_file_range(file.get(), static_cast<off64_t>(started), static_cast<off64_t>(written - started),
                        SYNC_FILE_RANGE_WRITE);
      started = written;
    }
  }
  if (options.sync && ::fdatasync(file.get()) != 0) Die("fdatasync");
  char acknowledged = 0;
  for (const Fd& fd : next) {
    if (ReadSome(fd, &acknowledged, 1) != 1) Die("a successor went away");
  }
  WriteAll(from, "k", 1);
}

void Fill(std::vector<char>& buffer) {
  uint64_t state = 0x9e3779b97f4a7c15;
  for (char& byte : buffer) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
}

// Writes its file, waits for a connection, says that the file is there, and sends it.
void ServeFile(const Options& options, const Fd& file, const Listener& listener) {
  std::vector<char> buffer(kBufferBytes);
  Fill(buffer);
  for (uint64_t at = 0; at < options.bytes(); at += buffer.size())
    WriteAll(file, buffer.data(), buffer.size());
  if (::lseek(file.get(), 0, SEEK_SET) != 0) Die("lseek");
  const Fd to = Accept(listener);
  rusage before{};
  ::getrusage(RUSAGE_SELF, &before);
  WriteAll(to, "k", 1);  // the file is there: the clock may start
  for (size_t got = 1; got > 0;) {
    got = ReadSome(file, buffer.data(), buffer.size());
    WriteAll(to, buffer.data(), got);
  }
  // What making the file cost is not ours.
  WriteAll(to, reinterpret_cast<const char*>(&before), sizeof(before));
}

// ---- the client

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double CpuSeconds(const rusage& usage) { return Seconds(usage.ru_utime) + Seconds(usage.ru_stime); }

double CpuSeconds(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return CpuSeconds(usage);
}

struct Measured {
  double seconds = 0;
  double unrelated_cpu_seconds = 0;
};

double Since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Measured Send(const Options& options, const Listener& to, std::vector<char>& buffer) {
  const Fd fd = Connect(to);
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t at = 0; at < options.bytes(); at += buffer.size()) WriteAll(fd, buffer.data(), buffer.size());
  char acknowledged = 0;
  if (ReadSome(fd, &acknowledged, 1) != 1) Die("the first server went away");
  return {.seconds = Since(start)};
}

Measured Receive(const Options& options, const Listener& from, std::vector<char>& buffer) {
  const Fd fd = Connect(from);
  if (ReadSome(fd, buffer.data(), 1) != 1) Die("the server went away");
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t left = options.bytes(); left > 0;) {
    const size_t got = ReadSome(fd, buffer.data(), std::min<uint64_t>(left, buffer.size()));
    if (got == 0) Die("the server went away");
    left -= got;
  }
  Measured measured{.seconds = Since(start)};
  rusage before{};
  for (size_t have = 0; have < sizeof(before);) {
    const size_t got = ReadSome(fd, reinterpret_cast<char*>(&before) + have, sizeof(before) - have);
    if (got == 0) Die("the server went away");
    have += got;
  }
  measured.unrelated_cpu_seconds = CpuSeconds(before);
  return measured;
}

// Children leave by _exit: what the parent buffered for its standard output is not theirs to write.
template <typename Run>
pid_t Fork(Run run) {
  const pid_t pid = ::fork();
  if (pid < 0) Die("fork");
  if (pid > 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  run();
  ::_exit(0);
}

void WaitFor(const std::vector<pid_t>& children) {
  for (const pid_t child : children) {
    int status = 0;
    if (::waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
      Die("a server failed");
  }
}

int Run(const Options& options) {
  const bool reading = options.mode == "read";
  std::vector<Listener> listeners;
  std::vector<File> files;
  for (int i = 0; i < (reading ? 1 : kServers); ++i) {
    listeners.push_back(Listen());
    files.emplace_back(options, i);
  }
  std::vector<char> buffer(kBufferBytes);
  Fill(buffer);
  std::vector<pid_t> children;
  for (int i = 0; i < static_cast<int>(listeners.size()); ++i) {
    children.push_back(Fork([&, i] {
      if (reading) {
        ServeFile(options, files[0].fd(), listeners[0]);
      } else {
        StoreAndForward(options, i, files[static_cast<size_t>(i)].fd(), listeners);
      }
    }));
  }
  const double cpu_before = CpuSeconds(RUSAGE_SELF);
  const Measured measured =
      reading ? Receive(options, listeners[0], buffer) : Send(options, listeners[0], buffer);
  WaitFor(children);
  for (const File& file : files) file.Remove();
  const double cpu =
      CpuSeconds(RUSAGE_SELF) - cpu_before + CpuSeconds(RUSAGE_CHILDREN) - measured.unrelated_cpu_seconds;
  const double gib = static_cast<double>(options.bytes()) / (1u << 30);
  std::printf(
      "{\"mode\":\"%s\",\"sync\":%s,\"bytes\":%llu,\"seconds\":%.4f,\"mb_per_s\":%.1f,\"cpu_s\":%.3f,"
      "\"cpu_s_per_gib\":%.3f}\n",
      options.mode.c_str(), options.sync && !reading ? "true" : "false",
      static_cast<unsigned long long>(options.bytes()), measured.seconds,
      static_cast<double>(options.bytes()) / 1e6 / measured.seconds, cpu, cpu / gib);
  return 0;
}

[[noreturn]] void Usage() {
  std::fprintf(stderr, "usage: chain_floor [--mode chain|star|read] [--mib N] [--dir FOLDER] [--no-sync]\n");
  std::exit(2);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--no-sync") {
      options.sync = false;
      continue;
    }
    if (++i == argc) Usage();
    if (flag == "--mode") {
      options.mode = argv[i];
    } else if (flag == "--dir") {
      options.dir = argv[i];
    } else if (flag == "--mib") {
      options.mib = std::strtoull(argv[i], nullptr, 10);
    } else {
      Usage();
    }
  }
  const bool known = options.mode == "chain" || options.mode == "star" || options.mode == "read";
  if (!known || options.mib == 0 || options.mib > (1u << 20)) Usage();
  return options;
}

}  // namespace

int main(int argc, char** argv) { return Run(Parse(argc, argv)); }
