// A removal whose answer was lost is asked for again under the same ids.
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <vector>

#include "client/connection.h"
#include "client/topology.h"
#include "sluice/admin.grpc.pb.h"

namespace sluice::client {
namespace {

// Executes, and loses the first answer.
class LosesAnAnswer final : public admin::Admin::Service {
 public:
  grpc::Status Remove(grpc::ServerContext*, const admin::RemoveRequest* request,
                      admin::RemoveReply*) override {
    seen.push_back(*request);
    return seen.size() == 1 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost") : grpc::Status::OK;
  }
  std::vector<admin::RemoveRequest> seen;
};

TEST(RemoveBlob, K5_EveryAttemptCarriesTheSameIds) {
  LosesAnAnswer service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  Connection connection({fmt::format("127.0.0.1:{}", port)});
  ASSERT_TRUE(RemoveBlob(connection, kDefaultGroup, "a").ok());
  ASSERT_EQ(service.seen.size(), 2u);
  EXPECT_EQ(service.seen[0].client_id().size(), 16u);
  EXPECT_EQ(service.seen[0].client_id(), service.seen[1].client_id());
  EXPECT_EQ(service.seen[0].call_id(), service.seen[1].call_id());
  ASSERT_TRUE(RemoveBlob(connection, kDefaultGroup, "b").ok());
  EXPECT_NE(service.seen[0].client_id(), service.seen[2].client_id()) << "another call";
}

}  // namespace
}  // namespace sluice::client
