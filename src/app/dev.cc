// `sluice dev`: several servers on loopback as child processes of one command.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <memory>
#include <set>

#include "absl/strings/str_split.h"
#include "app/commands.h"
#include "app/options.h"
#include "app/output.h"
#include "env/files.h"
#include "node/identity.h"

namespace sluice::app {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPortStep = 10;
constexpr auto kRestartPause = std::chrono::seconds(1);
constexpr auto kEndPatience = std::chrono::seconds(10);
constexpr size_t kLineBytesMax = 64 << 10;
constexpr size_t kRecordBytesMax = 64 << 10;
constexpr std::string_view kErrorPrefix = "sluice serve: ";

struct DevFlags {
  uint32_t nodes = 3;
  std::string dir = "./sluice-dev";
  int base_port = 7400;
  Settings settings;
};

struct Child {
  std::string id;
  std::vector<std::string> arguments;
  pid_t pid = 0;    // 0: not running
  int output = -1;  // its standard output and error
  std::string line;
  std::string error;    // the last that it said before it ended
  bool failed = false;  // at its start: that would only fail again
  Clock::time_point start_at{};
};

class Cluster {
 public:
  explicit Cluster(DevFlags flags) : flags_(std::move(flags)), colour_(isatty(STDOUT_FILENO) == 1) {}
  absl::Status Run();

 private:
  absl::Status Prepare();
  absl::Status FindFounders();
  absl::Status SaveFounders();
  absl::Status DropFounded();
  absl::Status Start(Child& child);
  void ReadOutput(size_t i);
  void PrintLine(size_t i, std::string_view line);
  void OnSignal();
  void End();
  void Reap();
  void GiveUp(const Child& child);
  bool Running() const;
  std::string Folder(const std::string& id) const { return flags_.dir + "/" + id; }
  std::string Record() const { return flags_.dir + "/founders"; }

  const DevFlags flags_;
  const bool colour_;
  std::vector<Child> children_;
  std::set<std::string> founders_;  // are still to be started with --bootstrap for the first time
  int signals_ = -1;
  int ends_ = 0;          // how often it was told to end
  absl::Status output_;   // of the lines that it prints
  absl::Status failure_;  // of a server that could not start
  Clock::time_point kill_at_ = Clock::time_point::max();
};

absl::Status Cluster::Prepare() {
  if (flags_.base_port < 1 || flags_.base_port + static_cast<int>(flags_.nodes) * kPortStep > 65535) {
    return WrongUsage(
        fmt::format("--base-port {}: {} servers do not fit above it", flags_.base_port, flags_.nodes));
  }
  std::string peers;
  const auto address = [&](uint32_t i) {
    return fmt::format("127.0.0.1:{}", flags_.base_port + static_cast<int>(i) * kPortStep);
  };
  for (uint32_t i = 0; i < flags_.nodes; ++i)
    peers += fmt::format("{}n{}@{}", i == 0 ? "" : ",", i, address(i));
  for (uint32_t i = 0; i < flags_.nodes; ++i) {
    Child child{.id = fmt::format("n{}", i), .arguments = {}, .line = {}, .error = {}};
    child.arguments = {"sluice",   "serve",  "--id",           child.id,  "--listen",
                       address(i), "--data", Folder(child.id), "--peers", peers};
    if (!flags_.settings.config_file.empty()) {
      child.arguments.insert(child.arguments.end(), {"--config", flags_.settings.config_file});
    }
    for (const auto& [name, text] : flags_.settings.flags) {
      for (const Option& option : Options()) {
        if (option.name == name) child.arguments.insert(child.arguments.end(), {"--" + option.Flag(), text});
      }
    }
    children_.push_back(std::move(child));
  }
  RETURN_IF_ERROR(env::RealFiles().MakeDirs(flags_.dir));
  return FindFounders();
}

// Who is still to be bootstrapped stands in a file, from before the first server starts until each has its identity:
// a first start that was cut short goes on, and a folder that vanished later must not vote (F-20). A folder that has
// servers and no such file was made when there was none; its group has begun if a server knows its cluster.
absl::Status Cluster::FindFounders() {
  env::Files& files = env::RealFiles();
  bool anyone = false, begun = false;
  for (const Child& child : children_) {
    ASSIGN_OR_RETURN(const bool exists, files.Exists(Folder(child.id) + "/identity"));
    if (!exists) continue;
    anyone = true;
    const auto identity = node::OpenIdentity(files, Folder(child.id), {child.id}, false);
    begun = begun || !identity.ok() || !identity->cluster.IsZero();  // what it is not, its server says
  }
  ASSIGN_OR_RETURN(const bool recorded, files.Exists(Record()));
  if (anyone && recorded) {
    ASSIGN_OR_RETURN(const std::string record, env::ReadWholeFile(files, Record(), kRecordBytesMax));
    founders_ = absl::StrSplit(record, '\n', absl::SkipEmpty());
    return absl::OkStatus();
  }
  if (anyone && begun) return absl::OkStatus();
  for (const Child& child : children_) founders_.insert(child.id);
  return SaveFounders();
}

absl::Status Cluster::SaveFounders() {
  return env::WriteFileDurably(env::RealFiles(), Record(),
                               Bytes::Take(fmt::format("{}\n", fmt::join(founders_, "\n"))));
}

absl::Status Cluster::DropFounded() {
  env::Files& files = env::RealFiles();
  const size_t before = founders_.size();
  for (const Child& child : children_) {
    if (!founders_.contains(child.id)) continue;
    ASSIGN_OR_RETURN(const bool founded, files.Exists(Folder(child.id) + "/identity"));
    if (!founded) continue;
    RETURN_IF_ERROR(files.SyncDir(Folder(child.id)));  // it may have got its name this moment
    founders_.erase(child.id);
  }
  return founders_.size() == before ? absl::OkStatus() : SaveFounders();
}

absl::Status Cluster::Start(Child& child) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError(fmt::format("no pipe: {}", strerror(errno)));
  std::vector<char*> arguments;
  for (std::string& argument : child.arguments) arguments.push_back(argument.data());
  std::string bootstrap = "--bootstrap";
  if (founders_.contains(child.id)) arguments.push_back(bootstrap.data());
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError(fmt::format("cannot start a process: {}", strerror(errno)));
  if (pid == 0) {
    // Only what is safe after a fork. Ctrl-C reaches the parent alone, which ends its children in order.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    execv("/proc/self/exe", arguments.data());
    _exit(127);
  }
  close(ends[1]);
  child.pid = pid;
  child.output = ends[0];
  fcntl(child.output, F_SETFL, O_NONBLOCK);
  return absl::OkStatus();
}

void Cluster::PrintLine(size_t i, std::string_view line) {
  if (line.starts_with(kErrorPrefix)) children_[i].error = line.substr(kErrorPrefix.size());
  constexpr std::array kColours{32, 33, 34, 35, 36, 31};
  if (colour_) {
    Print("\x1b[{}m{} |\x1b[0m {}\n", kColours[i % kColours.size()], children_[i].id, line);
  } else {
    Print("{} | {}\n", children_[i].id, line);
  }
  output_.Update(FlushOutput());
}

void Cluster::ReadOutput(size_t i) {
  Child& child = children_[i];
  char buffer[16 << 10];
  ssize_t got = 0;
  while ((got = read(child.output, buffer, sizeof buffer)) > 0) {
    child.line.append(buffer, static_cast<size_t>(got));
    size_t begin = 0;
    for (size_t end; (end = child.line.find('\n', begin)) != std::string::npos; begin = end + 1) {
      PrintLine(i, std::string_view(child.line).substr(begin, end - begin));
    }
    child.line.erase(0, begin);
    if (child.line.size() > kLineBytesMax) PrintLine(i, std::exchange(child.line, {}));
  }
  if (got == 0) {
    if (!child.line.empty()) PrintLine(i, std::exchange(child.line, {}));
    close(std::exchange(child.output, -1));
  }
}

void Cluster::OnSignal() {
  signalfd_siginfo info;
  while (read(signals_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) continue;
    End();
  }
}

void Cluster::End() {
  ++ends_;
  kill_at_ = Clock::now() + kEndPatience;
  for (const Child& child : children_) {
    if (child.pid > 0) kill(child.pid, ends_ > 1 ? SIGKILL : SIGTERM);
  }
}

void Cluster::Reap() {
  int how = 0;
  for (pid_t pid; (pid = waitpid(-1, &how, WNOHANG)) > 0;) {
    for (size_t i = 0; i < children_.size(); ++i) {
      Child& child = children_[i];
      if (child.pid != pid) continue;
      child.pid = 0;
      child.start_at = Clock::now() + kRestartPause;
      if (ends_ > 0) continue;
      // One that had been up ends with 0 or by a signal.
      child.failed = WIFEXITED(how) && WEXITSTATUS(how) != 0;
      if (child.failed) continue;
      const std::string end =
          WIFSIGNALED(how) ? fmt::format("was ended by signal {}", WTERMSIG(how)) : "ended";
      PrintLine(i, fmt::format("{}; it starts again in a second", end));
    }
  }
}

void Cluster::GiveUp(const Child& child) {
  failure_ = absl::FailedPreconditionError(
      fmt::format("{} could not start, so all end: {} (its folder follows --dir, its ports --base-port)",
                  child.id, child.error.empty() ? "it did not say why" : child.error));
  End();
}

bool Cluster::Running() const {
  for (const Child& child : children_) {
    if (child.pid > 0) return true;
  }
  return false;
}

absl::Status Cluster::Run() {
  RETURN_IF_ERROR(flags_.settings.resolved);
  RETURN_IF_ERROR(Prepare());
  sigset_t set;
  sigemptyset(&set);
  for (const int one : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, one);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  while (ends_ == 0 || Running()) {
    RETURN_IF_ERROR(DropFounded());
    std::vector<pollfd> waits{{.fd = signals_, .events = POLLIN, .revents = 0}};
    for (Child& child : children_) {
      if (child.pid == 0 && child.output < 0 && ends_ == 0 && Clock::now() >= child.start_at) {
        RETURN_IF_ERROR(Start(child));
      }
      waits.push_back({.fd = child.output, .events = POLLIN, .revents = 0});  // -1 is skipped
    }
    poll(waits.data(), waits.size(), 100);
    OnSignal();
    for (size_t i = 0; i < children_.size(); ++i) {
      if (waits[i + 1].revents != 0) ReadOutput(i);
    }
    Reap();
    for (const Child& child : children_) {
      if (child.failed && child.output < 0 && ends_ == 0) GiveUp(child);  // all that it said is read
    }
    if (!output_.ok() && ends_ == 0) End();  // nobody sees what the servers say
    if (Clock::now() > kill_at_) {
      for (const Child& child : children_) {
        if (child.pid > 0) kill(child.pid, SIGKILL);
      }
    }
  }
  for (size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].output >= 0) ReadOutput(i);
  }
  failure_.Update(output_);
  return failure_;
}

}  // namespace

void AddDev(CLI::App& app, Chosen* chosen) {
  auto flags = std::make_shared<DevFlags>();
  CLI::App* command =
      NewCommand(app, "dev", "Runs several servers on loopback as its children; Ctrl-C ends all",
                 "sluice dev --nodes 3 --dir ./sluice-dev --base-port 7400", chosen,
                 [flags] { return Cluster(*flags).Run(); });
  command->add_option("--nodes", flags->nodes, "How many servers")
      ->check(CLI::Range(1, 9))
      ->capture_default_str();
  command->add_option("--dir", flags->dir, "Their folder: goes on with the data that is there")
      ->capture_default_str();
  command->add_option("--base-port", flags->base_port, "Server i listens on base + 10·i")
      ->capture_default_str();
  AddOptionFlags(*command, &flags->settings,
                 {"id", "listen", "advertise", "data_stream_listen", "stream_listen", "http_listen", "data",
                  "peers", "bootstrap"});
}

}  // namespace sluice::app
