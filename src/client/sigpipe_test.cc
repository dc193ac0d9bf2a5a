// A server that ends, or falls silent, while it takes bytes: an error for a program that knows nothing of SIGPIPE, and
// not its end (K22).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <thread>

#include "base/bytes.h"
#include "base/strings.h"
#include "base/temp_folder_for_test.h"
#include "client/server_for_test.h"
#include "sluice/blob.h"
#include "sluice/client.h"
#include "wire/datastream.h"

namespace sluice::client {
namespace {

constexpr uint64_t kTakenBytes = 1 << 20;
constexpr uint64_t kFileBytes = 64 << 20;

enum class Stop : uint8_t { kEnds, kFallsSilent };

// The DataStream port of a server that is told to be at address(): it takes each stream's header, and a MiB of its
// data, and no more.
class PortThatStops {
 public:
  explicit PortThatStops(Stop how) : how_(how) {
    const int small = 64 << 10;  // so that the sender waits within its file
    do {
      told_ = std::make_unique<ClosedPort>();
      if (socket_ >= 0) close(socket_);
      socket_ = socket(AF_INET, SOCK_STREAM, 0);
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    } while (!ListenBehind(told_->address()));
    thread_ = std::thread([this] { Run(); });
  }
  ~PortThatStops() {
    shutdown(socket_, SHUT_RDWR);
    thread_.join();
    close(socket_);
    for (const int one : taken_) close(one);
  }
  PortThatStops(const PortThatStops&) = delete;
  PortThatStops& operator=(const PortThatStops&) = delete;
  const std::string& address() const { return told_->address(); }
  bool stopped() const { return stopped_; }

 private:
  bool ListenBehind(const std::string& told) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(static_cast<uint16_t>(std::stoi(told.substr(told.rfind(':') + 1)) + 1));
    return bind(socket_, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0 && listen(socket_, 64) == 0;
  }

  void Run() {
    for (int one; (one = accept(socket_, nullptr, nullptr)) >= 0;) {
      taken_.push_back(one);
      Take(one);
      // Not closed: that would be a reset, of which only one of the two that use the socket hears.
      if (how_ == Stop::kEnds) shutdown(one, SHUT_WR);
    }
  }
  void Take(int one) {
    wire::RequestDecoder decoder;
    char buffer[16 << 10];
    for (uint64_t data = 0; data < kTakenBytes;) {
      const ssize_t got = recv(one, buffer, sizeof buffer, 0);
      if (got <= 0) return;
      decoder.Feed(Bytes::Copy({buffer, static_cast<size_t>(got)}));
      wire::RequestEvent event;
      for (absl::StatusOr<bool> more = decoder.Next(&event); more.ok() && *more;
           more = decoder.Next(&event)) {
        data += event.kind == wire::RequestEvent::Kind::kPiece ? event.data.size() : 0;
        if (event.kind != wire::RequestEvent::Kind::kStreamHeader) continue;
        wire::EncodeReply({.header = event.header, .success = true})
            .ForEachChunk(
                [one](std::string_view chunk) { (void)send(one, chunk.data(), chunk.size(), MSG_NOSIGNAL); });
      }
    }
    stopped_ = true;
  }

  const Stop how_;
  std::unique_ptr<ClosedPort> told_;
  int socket_ = -1;
  std::vector<int> taken_;  // of the thread
  std::atomic<bool> stopped_ = false;
  std::thread thread_;
};

// Each runs in a process of its own, as a program that uses the library, and does nothing about signals.
class AProgram : public testing::Test {
 protected:
  AProgram() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // Ends with 0 if `put` gave an error when the port had stopped.
  static void Run(
      Stop how, const std::function<absl::Status(const std::string& server, const std::string& path)>& put) {
    signal(SIGPIPE, SIG_DFL);
    absl::Status status;
    bool stopped = false;
    {
      const PortThatStops port(how);
      const LiveServer live({}, /*advertise=*/port.address());
      const auto blobs = *BlobClient::Create({.servers = {live.address()}});
      while (!blobs->PutBytes("small", Bytes::Copy("x")).ok()) {  // until it has a leader
      }
      const TempFolder folder;
      const std::string path = folder / "large";
      std::ofstream(path).close();
      std::filesystem::resize_file(path, kFileBytes);
      status = put(live.address(), path);
      stopped = port.stopped();
    }
    std::cerr << "the put said: " << status << std::endl;
    exit(stopped && !status.ok() ? 0 : 1);
  }
};

TEST_F(AProgram, K22_SurvivesAServerThatStopsInTheMiddleOfAFile) {
  const auto put = [](const std::string& server, const std::string& path) {
    const auto blobs =
        *BlobClient::Create({.servers = {server}, .silence_ms = 1'000, .window_bytes = 2 * kFileBytes});
    return blobs->PutFile("large", path).status();
  };
  EXPECT_EXIT(Run(Stop::kEnds, put), testing::ExitedWithCode(0), "the put said: ");
  EXPECT_EXIT(Run(Stop::kFallsSilent, put), testing::ExitedWithCode(0), "the put said: ");
}

TEST_F(AProgram, K22_SurvivesAServerThatEndsInTheMiddleOfAFileRegion) {
  const auto put = [](const std::string& server, const std::string& path) {
    const auto raft = *RaftClient::Create({.servers = {server}});
    auto stream = raft->DataStream().Stream(EncodeBlobHeader("large", kFileBytes));
    if (!stream.ok()) return absl::OkStatus();
    RETURN_IF_ERROR((*stream)->HeaderFuture().Get().status());
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    absl::Status written =
        (*stream)->WriteAsync(FileRegion{.fd = fd, .offset = 0, .count = kFileBytes}).Get().status();
    close(fd);
    return written;
  };
  EXPECT_EXIT(Run(Stop::kEnds, put), testing::ExitedWithCode(0), "the put said: ");
}

// What a get writes into a pipe is written by the library as well.
TEST_F(AProgram, K22_SurvivesAPipeThatNobodyReadsAnyMore) {
  const auto get = [] {
    signal(SIGPIPE, SIG_DFL);
    absl::Status status;
    {
      const LiveServer live;
      const auto blobs = *BlobClient::Create({.servers = {live.address()}});
      const Bytes content = Bytes::Take(std::string(1 << 20, 'x'));  // more than a pipe holds
      SLUICE_CHECK(blobs->PutBytes("large", content).ok());
      int ends[2];
      SLUICE_CHECK(pipe(ends) == 0);
      std::thread reader([&] {
        char byte = 0;
        (void)!read(ends[0], &byte, 1);
        close(ends[0]);
      });
      status = blobs->GetFile("large", fmt::format("/proc/self/fd/{}", ends[1])).status();
      reader.join();
      close(ends[1]);
    }
    std::cerr << "the get said: " << status << std::endl;
    exit(status.ok() ? 1 : 0);
  };
  EXPECT_EXIT(get(), testing::ExitedWithCode(0), "the get said: .*Broken pipe");
}

}  // namespace
}  // namespace sluice::client
