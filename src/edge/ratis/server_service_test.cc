// The server's services over gRPC, with a fake host.
#include "edge/ratis/server_service.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <vector>

#include "edge/fake_host_for_test.h"

namespace sluice::edge::ratis {
namespace {

using Stub = ::sluice::ratis::grpc::RaftServerProtocolService::Stub;

class ServerServiceTest : public testing::Test {
 protected:
  ServerServiceTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = ::sluice::ratis::grpc::RaftServerProtocolService::NewStub(
        grpc::CreateChannel(fmt::format("127.0.0.1:{}", port), grpc::InsecureChannelCredentials()));
  }
  ~ServerServiceTest() override {
    service_.Stop();
    server_->Shutdown();
    disk_->Stop();
  }

  FakeHost host_{"n1", {kDefaultGroup}};
  ReplyTable replies_{kWaitingRepliesMax, kReplyLifetime, env::RealClock()};
  std::unique_ptr<env::Executor> disk_ = env::RealExecutors().NewExecutor("disk");
  ServerService service_{&host_, &replies_, disk_.get(), &env::RealFiles(), std::chrono::milliseconds(50)};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(ServerServiceTest, K16_ASenderOfASnapshotThatSaysNothingKeepsNoPlace) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  const auto open = [&] {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    contexts.back()->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    return stub_->installSnapshot(contexts.back().get());
  };
  const auto silent = testing::HasSubstr("no chunk came for 50 ms");
  std::vector<decltype(open())> calls;
  for (size_t i = 0; i < kSnapshotsMax; ++i) calls.push_back(open());
  for (const auto& call : calls) EXPECT_THAT(call->Finish().error_message(), silent);
  // A place is free when the server has let go of the call, just after its end.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  grpc::Status status;
  do {
    status = open()->Finish();
  } while (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
           std::chrono::steady_clock::now() < give_up);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), silent);
}

}  // namespace
}  // namespace sluice::edge::ratis
