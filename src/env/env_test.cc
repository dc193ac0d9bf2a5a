// What only the real machine has; what it shares with the simulator is tested by sim/*_contract.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <set>
#include <thread>

#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include "base/check.h"
#include "base/temp_folder_for_test.h"
#include "env/clock.h"
#include "env/descriptors.h"
#include "env/files.h"
#include "env/loop.h"
#include "env/random.h"

namespace sluice::env {
namespace {

class RealFilesTest : public testing::Test {
 protected:
  const TempFolder folder_;
  const std::string root_ = folder_.path();
};

TEST_F(RealFilesTest, F14_NoDescriptorsLeftIsResourceExhausted) {
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none{0, old.rlim_max};  // what is open stays open
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = RealFiles().Open(root_ + "/f", {.create = true}).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST_F(RealFilesTest, F12_FullDeviceIsResourceExhausted) {
  auto full = RealFiles().Open("/dev/full", {});
  // The only device that is always full is the kernel's; a container may leave it out.
  if (!full.ok()) GTEST_SKIP() << "no /dev/full here";
  const absl::Status status = (*full)->WriteAt(0, Bytes::Copy("x"));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("write /dev/full"));
}

TEST_F(RealFilesTest, DirectWritesWorkOrFallBackInMemoryToo) {
  const std::string path = fmt::format("/dev/shm/sluice_env_{}", getpid());
  auto file = RealFiles().Open(path, {.create = true, .direct = true});
  // A file system in memory, which may refuse O_DIRECT; a container may come without one.
  if (!file.ok()) GTEST_SKIP() << "no /dev/shm here";
  EXPECT_TRUE((*file)->WriteDurably(0, Bytes::Copy(std::string(8192, 'x'))).ok());
  EXPECT_EQ(*ReadWholeFile(RealFiles(), path, 8192), std::string(8192, 'x'));
  EXPECT_TRUE(RealFiles().Remove(path).ok());
}

TEST_F(RealFilesTest, RelativePathsWork) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(root_);
  EXPECT_TRUE(RealFiles().MakeDirs("a/b").ok());
  EXPECT_TRUE(WriteFileDurably(RealFiles(), "id", Bytes::Copy("x")).ok());
  std::filesystem::current_path(before);
  EXPECT_TRUE(*RealFiles().Exists(root_ + "/a/b"));
  EXPECT_TRUE(*RealFiles().Exists(root_ + "/id"));
}

TEST(RealClock, GoesForwardAndKnowsTheCentury) {
  const Instant first = RealClock().MonotonicNow();
  EXPECT_LE(first, RealClock().MonotonicNow());
  EXPECT_GT(RealClock().WallNowMs(), 1'600'000'000'000);
}

TEST(RealRandom, DoesNotRepeatAcrossThreads) {
  std::vector<std::vector<uint64_t>> drawn(4);
  std::vector<std::thread> threads;
  for (auto& mine : drawn) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 1000; ++i) mine.push_back(RealRandom().Next64());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> all;
  for (const auto& mine : drawn) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 4000u);
}

TEST(Loop, RunsManyPostersInEachOnesOrder) {
  auto loop = NewLoop("shard");
  std::vector<int> last(4, -1);
  bool ordered = true;
  std::vector<std::thread> posters;
  for (size_t p = 0; p < last.size(); ++p) {
    posters.emplace_back([&, p] {
      for (int i = 0; i < 5000; ++i) {
        loop->Post([&, p, i] {
          ordered &= last[p] == i - 1;
          last[p] = i;
        });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  loop.reset();
  EXPECT_TRUE(ordered);
  EXPECT_THAT(last, testing::Each(4999));
}

TEST(Loop, EarlierTimerOvertakesALaterOneThatIsArmed) {
  std::promise<void> fired;
  auto loop = NewLoop("shard");
  loop->PostAfter(std::chrono::hours(1), [] {});
  loop->PostAfter(std::chrono::milliseconds(1), [&] { fired.set_value(); });
  EXPECT_EQ(fired.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST(Loop, CarriesSocketsBesideItsTasks) {
  using asio::ip::tcp;
  std::promise<std::string> received;
  auto loop = NewLoop("edge");
  struct Sockets {
    explicit Sockets(asio::io_context& context)
        : acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
          server(context),
          client(context) {}
    tcp::acceptor acceptor;
    tcp::socket server, client;
    std::array<char, 4> buffer{};
    bool served_on_loop = false;
  };
  std::unique_ptr<Sockets> sockets;
  loop->Post([&] {
    sockets = std::make_unique<Sockets>(loop->context());
    sockets->acceptor.async_accept(sockets->server, [&](std::error_code error) {
      if (error) return received.set_value(error.message());
      sockets->served_on_loop = loop->RunsHere();
      asio::async_read(sockets->server, asio::buffer(sockets->buffer), [&](std::error_code failed, size_t) {
        received.set_value(failed ? failed.message() : std::string(sockets->buffer.data(), 4));
      });
    });
    sockets->client.async_connect(sockets->acceptor.local_endpoint(), [&](std::error_code) {
      asio::async_write(sockets->client, asio::buffer("ping", 4), [](std::error_code, size_t) {});
    });
  });
  EXPECT_EQ(received.get_future().get(), "ping");
  EXPECT_TRUE(sockets->served_on_loop);
  loop->Post([&] { sockets.reset(); });  // on their own thread, before the loop
  loop.reset();
}

TEST(Descriptors, K17_F14_TheLastOnesAreNotForClients) {
  const pid_t pid = fork();
  if (pid == 0) {
    const rlimit small{300, 300};
    if (setrlimit(RLIMIT_NOFILE, &small) != 0 || !RaiseDescriptorLimit().ok()) _exit(1);
    std::vector<std::unique_ptr<File>> open;
    const auto fill = [&](bool for_client) {
      while (true) {
        auto file = RealFiles().Open("/dev/null", {.read_only = true, .for_client = for_client});
        if (!file.ok()) return absl::IsResourceExhausted(file.status());
        open.push_back(*std::move(file));
      }
    };
    if (!fill(true)) _exit(2);
    const size_t clients = open.size();
    if (clients < 200) _exit(3);
    if (!fill(false)) _exit(4);
    // Some of the numbers may have been taken before.
    if (open.size() + 8 < clients + DescriptorReserve()) _exit(5);
    const rlimit tiny{64, 64};
    setrlimit(RLIMIT_NOFILE, &tiny);
    const absl::Status told = RaiseDescriptorLimit();
    if (told.ok() || told.message().find("64") == std::string_view::npos) _exit(6);
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace sluice::env
