#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/sigpipe.h"
#include "base/strings.h"

namespace sluice {
namespace {

TEST(Crc32c, KnownVectorAndExtension) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(ExtendCrc32c(Crc32c("1234"), "56789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
  Bytes bytes = Bytes::Copy("1234");
  bytes.Append(Bytes::Copy("56789"));
  EXPECT_EQ(Crc32c(bytes), 0xE3069283u);
}

TEST(Md5, KnownVector) {
  Md5Builder builder;
  builder.Update("ab");
  builder.Update("c");
  EXPECT_EQ(ToHex(builder.Finish()), "900150983cd24fb0d6963f7d28e17f72");
}

TEST(Sha256, KnownVectorAndHex) {
  DigestBuilder builder;
  builder.Update("ab");
  builder.Update("c");
  const Sha256 digest = builder.Finish();
  EXPECT_EQ(digest.ToHex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256::FromHex(digest.ToHex()), digest);
  EXPECT_FALSE(Sha256::FromHex("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
  EXPECT_FALSE(Sha256::FromHex("ba"));
}

TEST(Ids, UuidRoundTripsAndRefusesOtherShapes) {
  auto group = GroupId::Parse("00000000-0000-0000-0000-736c75696365");
  ASSERT_TRUE(group);
  EXPECT_EQ(*group, kDefaultGroup);
  EXPECT_EQ(group->ToString(), "00000000-0000-0000-0000-736c75696365");
  EXPECT_FALSE(GroupId::Parse("00000000-0000-0000-0000-736c7569636"));
  EXPECT_FALSE(GroupId::Parse("0000000000000-0000-0000-736c75696365"));
  EXPECT_FALSE(GroupId::Parse("00000000-0000-0000-0000-736c7569636g"));
  EXPECT_FALSE(GroupId::FromBytes(std::string(15, 'x')));
  EXPECT_FALSE(GroupId::FromBytes(std::string(17, 'x')));
}

TEST(Ids, UploadIdRoundTrips) {
  const UploadId id{*ClientId::FromBytes("0123456789abcdef"), CallId{0x1122334455667788}};
  EXPECT_EQ(id.ToHex(), "303132333435363738396162636465661122334455667788");
  EXPECT_EQ(UploadId::FromHex(id.ToHex()), id);
  EXPECT_FALSE(UploadId::FromHex("30"));
}

TEST(Bytes, SlicesShareAndReleaseOnce) {
  int released = 0;
  const std::string memory(4096, 'x');  // Shorter pieces are copied at once.
  {
    Bytes whole = Bytes::Wrap(memory.data(), memory.size(), [&released] { ++released; });
    Bytes part = whole.Slice(4000, 1000);
    whole = Bytes();
    EXPECT_EQ(released, 0);
    EXPECT_EQ(part, std::string(96, 'x'));
  }
  EXPECT_EQ(released, 1);
}

TEST(Log, PrintableEscapesAndCuts) {
  EXPECT_EQ(Printable("a\nb"), "a\\nb");
  EXPECT_LT(Printable(std::string(1 << 20, 'x')).size(), 140u);
}

// Runs `body` in a process of its own whose standard output is a pipe. Gives its exit status, and what it
// wrote, of which nothing was read before its end unless `read` says so.
struct Ended {
  int status = 0;
  std::string out;
};
Ended RunWithPipe(bool read_at_once, const std::function<void()>& body) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    alarm(20);  // what hangs is killed
    body();
    exit(7);
  }
  close(ends[1]);
  Ended ended;
  if (!read_at_once) waitpid(pid, &ended.status, 0);
  char buffer[4096];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) {
    ended.out.append(buffer, static_cast<size_t>(got));
  }
  if (read_at_once) waitpid(pid, &ended.status, 0);
  close(ends[0]);
  return ended;
}

TEST(Log, K17_APipeThatNobodyReadsHoldsUpNobody) {
  const Ended ended = RunWithPipe(false, [] {
    for (int i = 0; i < 200'000; ++i) LogInfo("line {}", i);
  });
  EXPECT_TRUE(WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 7) << ended.status;
  EXPECT_NE(ended.out.find("line 0\n"), std::string::npos);
}

TEST(Log, K17_LinesAreWrittenInOrderBeforeTheEnd) {
  const Ended ended = RunWithPipe(true, [] {
    for (int i = 0; i < 1000; ++i) LogInfo("line {}", i);
  });
  EXPECT_TRUE(WIFEXITED(ended.status));
  size_t at = 0;
  for (int i = 0; i < 1000; ++i) {
    at = ended.out.find(fmt::format("line {}\n", i), at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST(Log, K17_WhatWasDroppedIsCounted) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Ended ended = RunWithPipe(true, [&ends] {
    // Nobody reads until all is said.
    const int out = dup(STDOUT_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    for (int i = 0; i < 200'000; ++i) LogInfo("line {}", i);
    dup2(out, STDOUT_FILENO);
    char rest[1 << 16];
    (void)!read(ends[0], rest, sizeof rest);
    (void)!read(ends[0], rest, sizeof rest);
    EXPECT_TRUE(FlushLog(std::chrono::seconds(10)));
  });
  close(ends[0]);
  close(ends[1]);
  EXPECT_NE(ended.out.find(" log lines were dropped"), std::string::npos);
  EXPECT_NE(ended.out.find("line 199999\n"), std::string::npos);  // the newest are kept
}

int PipeWithoutReader() {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  close(ends[0]);
  return ends[1];
}

// A host of the library that reads its standard output no more, and has not heard of SIGPIPE.
TEST(Log, K17_AReaderThatIsGoneEndsNobody) {
  const Ended ended = RunWithPipe(true, [] {
    signal(SIGPIPE, SIG_DFL);
    dup2(PipeWithoutReader(), STDOUT_FILENO);
    for (int i = 0; i < 3; ++i) LogInfo("line {}", i);
    if (!FlushLog(std::chrono::seconds(10))) exit(1);
  });
  EXPECT_TRUE(WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 7) << ended.status;
}

TEST(Sigpipe, K22_AWriteThatNobodyReadsIsAnErrorAndNothingElse) {
  const Ended ended = RunWithPipe(true, [] {
    signal(SIGPIPE, SIG_DFL);
    const int out = PipeWithoutReader();
    for (int i = 0; i < 2; ++i) {
      {
        const WithoutSigpipe quiet;
        if (write(out, "x", 1) != -1 || errno != EPIPE) exit(1);
        if (write(out, "x", 1) != -1) exit(2);
      }
      if (errno != EPIPE) exit(3);
    }
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    if (sigismember(&mask, SIGPIPE) != 0) exit(4);
  });
  EXPECT_TRUE(WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 7) << ended.status;
}

TEST(Sigpipe, K22_ASignalThatWaitsForItsProgramIsLeft) {
  const Ended ended = RunWithPipe(true, [] {
    signal(SIGPIPE, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    const int out = PipeWithoutReader();
    const auto pending = [] {
      sigset_t now;
      sigpending(&now);
      return sigismember(&now, SIGPIPE) == 1;
    };
    const auto write_quietly = [out] {
      const WithoutSigpipe quiet;
      (void)!write(out, "x", 1);
    };
    write_quietly();
    if (pending()) exit(1);
    raise(SIGPIPE);
    write_quietly();
    if (!pending()) exit(2);
    pthread_sigmask(SIG_SETMASK, nullptr, &set);
    if (sigismember(&set, SIGPIPE) != 1) exit(3);
  });
  EXPECT_TRUE(WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 7) << ended.status;
}

TEST(Log, K17_AFailedCheckFlushesAndAborts) {
  const Ended ended = RunWithPipe(true, [] {
    LogInfo("the last line");
    SLUICE_CHECK(1 + 1 == 3) << "as planned";
  });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGABRT) << ended.status;
  EXPECT_NE(ended.out.find("the last line"), std::string::npos);
}

}  // namespace
}  // namespace sluice
