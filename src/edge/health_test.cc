// What load balancers are told, over gRPC and HTTP (K28).
#include "edge/health.h"

#include <gtest/gtest.h>
#include <asio/connect.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include <atomic>
#include <future>
#include <string>
#include <thread>

#include "edge/fake_host_for_test.h"
#include "edge/http/metrics_port.h"
#include "env/loop.h"

namespace sluice::edge {
namespace {

// The answer of `path` at a port of this machine, whole.
std::string Get(int port, const std::string& path) {
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  std::error_code error;
  socket.connect({asio::ip::address_v4::loopback(), static_cast<uint16_t>(port)}, error);
  if (error) return error.message();
  asio::write(socket, asio::buffer(fmt::format("GET {} HTTP/1.0\r\n\r\n", path)), error);
  std::string answer;
  asio::read(socket, asio::dynamic_buffer(answer), error);
  return answer;
}

TEST(Health, K28_FollowsTheHostAndCallsOnlyWhenItChanges) {
  const auto loop = env::NewLoop("health");
  for (const bool serves : {true, false}) {
    FakeHost host("n0", {kDefaultGroup});
    host.serving = serves ? absl::OkStatus() : absl::UnavailableError("there is no leader");
    std::promise<bool> first;
    std::atomic<int> changes = 0;
    auto health = std::make_shared<Health>(&host, loop.get(), [&](bool serving) {
      if (++changes == 1) first.set_value(serving);
    });
    EXPECT_FALSE(health->Now().ok()) << "not known yet";
    health->Start();
    if (serves) {
      EXPECT_TRUE(first.get_future().get());
      EXPECT_TRUE(health->Now().ok());
    } else {
      while (Message(health->Now()) != "there is no leader") std::this_thread::yield();
    }
    EXPECT_EQ(changes, serves ? 1 : 0);
    health->Stop();
    EXPECT_FALSE(health->Now().ok());
    std::promise<void> idle;  // what it posted has ended before the host does
    loop->Post([&] { idle.set_value(); });
    idle.get_future().wait();
  }
}

// Its threads hang: it answers nothing at all.
class SilentHost final : public FakeHost {
 public:
  using FakeHost::FakeHost;
  void Serving(env::Executor*, absl::AnyInvocable<void(absl::Status)>) override {}
};

TEST(Health, K28_AHostThatAnswersNothingDoesNotServe) {
  const auto loop = env::NewLoop("health");
  SilentHost host("n0", {kDefaultGroup});
  std::atomic<bool> said_serving = false;
  auto health = std::make_shared<Health>(&host, loop.get(), [&](bool serving) { said_serving = serving; });
  health->Start();
  const auto silent = [&] { return Message(health->Now()).find("do not answer") != std::string_view::npos; };
  std::promise<void> never;
  const auto pause = never.get_future();
  for (int i = 0; i < 1000 && !silent(); ++i) pause.wait_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(silent()) << health->Now();
  EXPECT_FALSE(said_serving);
  health->Stop();
  std::promise<void> idle;
  loop->Post([&] { idle.set_value(); });
  idle.get_future().wait();
}

TEST(MetricsPort, K28_ReadyzSaysWhyNotAndHealthzOnlyThatTheProcessLives) {
  absl::Status serving = absl::UnavailableError("group g: there is no leader");
  node::Cluster cluster({"n0"}, &env::RealClock());
  http::MetricsPort port(
      "127.0.0.1:0", [&] { return serving; }, &cluster);
  ASSERT_TRUE(port.Start().ok());
  const int bound = port.port();
  ASSERT_GT(bound, 0);
  EXPECT_NE(Get(bound, "/healthz").find("200 OK"), std::string::npos);
  std::string ready = Get(bound, "/readyz");
  EXPECT_NE(ready.find("503"), std::string::npos) << ready;
  EXPECT_NE(ready.find("not ready: group g: there is no leader"), std::string::npos) << ready;
  serving = absl::OkStatus();
  ready = Get(bound, "/readyz");
  EXPECT_NE(ready.find("200 OK"), std::string::npos) << ready;
  const std::string metrics = Get(bound, "/metrics");
  EXPECT_NE(metrics.find("# TYPE sluice_streams_open gauge"), std::string::npos) << metrics.substr(0, 400);
  EXPECT_EQ(metrics.find("sluice_cluster_info"), std::string::npos) << "nobody knows it yet";
  EXPECT_TRUE(cluster.Learn(ClusterId{{1}}));
  EXPECT_NE(Get(bound, "/metrics").find("sluice_cluster_info{cluster=\"01000000-"), std::string::npos);
  EXPECT_NE(Get(bound, "/nothing").find("404"), std::string::npos);
  http::MetricsPort second(
      fmt::format("127.0.0.1:{}", bound), [&] { return serving; }, &cluster);
  EXPECT_TRUE(absl::IsUnavailable(second.Start()));
  port.Stop();
}

}  // namespace
}  // namespace sluice::edge
