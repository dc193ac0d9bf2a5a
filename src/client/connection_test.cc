#include "client/connection.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <future>

#include "base/strings.h"
#include "client/server_for_test.h"
#include "client/topology.h"

namespace sluice::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ParseServers, TakesAListAndNamesThePartThatIsNone) {
  EXPECT_THAT(*ParseServers("a:1,[::1]:65535"), ElementsAre("a:1", "[::1]:65535"));
  for (const char* text : {"", "a", ":1", "a:0", "a:65536", "a:1,b", "a:x", "a:-1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseServers(text).status())) << text;
  }
  EXPECT_THAT(std::string(Message(ParseServers("a:1,b").status())), HasSubstr("\"b\""));
}

TEST(Connection, AsksTheOneThatAnsweredLastFirst) {
  Connection connection({"a:1", "b:1", "c:1"});
  std::vector<std::string> asked;
  const auto only_b = [&](const std::string& address, Duration) {
    asked.push_back(address);
    return address == "b:1" ? absl::OkStatus() : absl::UnavailableError("no");
  };
  EXPECT_TRUE(connection.AtAny(only_b).ok());
  EXPECT_TRUE(connection.AtAny(only_b).ok());
  EXPECT_THAT(asked, ElementsAre("a:1", "b:1", "b:1"));
  connection.Avoid("b:1");
  EXPECT_THAT(connection.Order(), ElementsAre("c:1", "a:1", "b:1"));
  connection.Avoid("b:1");  // is not first any more
  EXPECT_THAT(connection.Order(), ElementsAre("c:1", "a:1", "b:1"));
  connection.AddServer("d:1", "n3");
  connection.AddServer("a:1", "n0");
  EXPECT_EQ(connection.servers().size(), 4u);
}

TEST(Connection, AnAnswerIsNotSoughtElsewhere) {
  Connection connection({"a:1", "b:1"});
  int asked = 0;
  const absl::Status status = connection.AtAny([&](const std::string&, Duration) {
    ++asked;
    return absl::NotFoundError("no such blob");
  });
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(asked, 1);
}

TEST(Connection, K22_AnAttemptIsShortWhileThereIsAnotherServer) {
  Connection three({"a:1", "b:1", "c:1"});
  std::vector<Duration> given;
  const auto attempt = [&](const std::string&, Duration timeout) {
    given.push_back(timeout);
    return given.size() < 5 ? absl::DeadlineExceededError("frozen") : absl::OkStatus();
  };
  EXPECT_TRUE(three.AtAny(attempt).ok());
  EXPECT_THAT(given, ElementsAre(kAttemptTimeout, kAttemptTimeout, kAttemptTimeout, 2 * kAttemptTimeout,
                                 2 * kAttemptTimeout));
  Connection one({"a:1"});
  given.assign(4, {});
  EXPECT_TRUE(one.AtAny(attempt).ok());
  EXPECT_EQ(given.back(), kAttemptTimeoutMax);
}

TEST(Connection, K22_OneFullServerIsNotTheAnswerOfAll) {
  Connection connection({"a:1", "b:1"});
  int asked = 0;
  EXPECT_TRUE(connection
                  .AtAny([&](const std::string& address, Duration) {
                    ++asked;
                    return address == "a:1" ? absl::ResourceExhaustedError("full") : absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(asked, 2);
  asked = 0;
  EXPECT_TRUE(absl::IsResourceExhausted(connection.AtAny([&](const std::string&, Duration) {
    ++asked;
    return absl::ResourceExhaustedError("full");
  })));
  EXPECT_EQ(asked, 2) << "each once: it is final for it";
}

TEST(Connection, K20_ServersOfTwoClustersAreNotAskedTogether) {
  const LiveServer one, two;
  Connection connection({one.address(), two.address()});
  // A cluster knows itself once its first leader has said so.
  const auto ask = [&](const LiveServer& server) {
    absl::StatusOr<ServerStatus> status = AskStatus(connection, server.address(), kCallTimeout);
    while (status.ok() && status->cluster.IsZero())
      status = AskStatus(connection, server.address(), kCallTimeout);
    return status;
  };
  const auto first = ask(one);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(connection.cluster(), first->cluster);
  const auto second = ask(two);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(Message(second.status())), HasSubstr(first->cluster.ToString()));
  EXPECT_TRUE(absl::IsFailedPrecondition(StatBlob(connection, kDefaultGroup, "x").status()) ||
              absl::IsNotFound(StatBlob(connection, kDefaultGroup, "x").status()));
}

TEST(Connection, K20_AServerThatListensEverywhereIsWhereItWasReached) {
  const LiveServer server({}, "", "0.0.0.0:0");
  const std::string port = server.address().substr(server.address().rfind(':'));
  Connection connection({"127.0.0.1" + port});
  const auto status = AskStatus(connection, "127.0.0.1" + port, kCallTimeout);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->self.address, "127.0.0.1" + port);
  EXPECT_THAT(status->self.data_stream_address, testing::StartsWith("127.0.0.1:"));
}

TEST(Connection, AStoppedClusterIsOneLineThatNamesEveryServer) {
  const ClosedPort one, two;
  Connection connection({one.address(), two.address()});
  const absl::Status status = AskAnyStatus(connection, {.contact = {}, .answer = kAnswerPatience}).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  const std::string text(Message(status));
  EXPECT_THAT(text, HasSubstr("no server answered"));
  EXPECT_THAT(text, HasSubstr(one.address() + " (connection refused)"));
  EXPECT_THAT(text, HasSubstr(two.address() + " (connection refused)"));
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(Connection, AServerThatIsThereIsAskedAgain) {
  const LiveServer server;
  Connection connection({server.address()});
  int asked = 0;
  const auto third_time = [&](const std::string& address, Duration) {
    const absl::Status status = AskStatus(connection, address, kCallTimeout).status();
    return ++asked < 3 && status.ok() ? absl::UnavailableError("no leader yet") : status;
  };
  // Nobody may refuse for so long; but this one is there.
  const Duration contact = std::chrono::milliseconds(1'000);
  EXPECT_TRUE(connection.AtAny(third_time, {.contact = contact, .answer = kAnswerPatience}).ok());
  EXPECT_EQ(asked, 3);
  const auto never = [&](const std::string& address, Duration) {
    (void)AskStatus(connection, address, kCallTimeout);
    return absl::UnavailableError("no leader");
  };
  const absl::Status over = connection.AtAny(never, {.contact = contact, .answer = {}});
  EXPECT_THAT(std::string(Message(over)), HasSubstr("no server can serve"));
}

// gRPC's own backoff would refuse the call for a while without trying.
TEST(Connection, AServerThatIsBackAnswersTheNextCall) {
  LiveServer server;
  Connection connection({server.address()});
  const Patience once{.contact = {}, .answer = {}};
  EXPECT_TRUE(AskAnyStatus(connection, once).ok());
  server.Stop();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(absl::IsUnavailable(AskAnyStatus(connection, once).status()));
  server.Start();
  EXPECT_TRUE(AskAnyStatus(connection, once).ok());
}

// What a call holds goes on gRPC's own thread. With the last channel that thread would end,
// and wait for itself.
TEST(Connection, TheLastChannelMayGoAtTheEndOfACall) {
  struct Call {
    std::unique_ptr<grpc::GenericStub> stub;
    grpc::ClientContext context;
    const grpc::Slice nothing;
    grpc::ByteBuffer request{&nothing, 1};
    grpc::ByteBuffer response;
  };
  for (int i = 0; i < 200; ++i) {
    auto call = std::make_shared<Call>();
    call->stub = std::make_unique<grpc::GenericStub>(Connection({"127.0.0.1:1"}).Channel("127.0.0.1:1"));
    std::promise<bool> ended;
    Call* const raw = call.get();
    raw->stub->UnaryCall(&raw->context, "/none/none", grpc::StubOptions(), &raw->request, &raw->response,
                         [&ended, call = std::move(call)](const grpc::Status& status) mutable {
                           call.reset();
                           ended.set_value(status.ok());
                         });
    EXPECT_FALSE(ended.get_future().get());
  }
}

}  // namespace
}  // namespace sluice::client
