#include "edge/ratis/client_request.h"

#include <gtest/gtest.h>

#include "edge/fake_host_for_test.h"
#include "node/command.h"

namespace sluice::edge::ratis {
namespace {

const ClientId kClient = *ClientId::FromBytes("client-of-a-test");

class TakeRequest : public testing::Test {
 protected:
  static pb::RaftClientRequestProto Write(const ClientId& client) {
    pb::RaftClientRequestProto proto;
    proto.mutable_rpc_request()->set_requestor_id(std::string(client.AsBytes()));
    proto.mutable_rpc_request()->mutable_raft_group_id()->set_id(std::string(kDefaultGroup.AsBytes()));
    proto.mutable_message()->set_content("x");
    proto.mutable_write();
    return proto;
  }
  static pb::RaftClientRequestProto Forward(const ClientId& stream_of) {
    pb::RaftClientRequestProto inner = Write(stream_of);
    inner.mutable_data_stream();
    pb::RaftClientRequestProto proto = Write(kClient);
    proto.mutable_message()->set_content(inner.SerializeAsString());
    proto.mutable_forward();
    return proto;
  }
  // The Java class that the call ends with; empty: it is taken.
  std::string Ends(pb::RaftClientRequestProto proto) {
    ParsedRequest parsed;
    const auto failure = TakeClientRequest(host_, proto, &parsed);
    return failure ? failure->exception : "";
  }

  FakeHost host_{"n0", {kDefaultGroup}};
};

constexpr char kIllegalArgument[] = "java.lang.IllegalArgumentException";
constexpr char kIllegalState[] = "java.lang.IllegalStateException";

// What the servers themselves write is not to be had by asking, for a stream's forward neither.
TEST_F(TakeRequest, F66_TheServersOwnClientIdIsReserved) {
  EXPECT_EQ(Ends(Write(kClient)), "");
  EXPECT_EQ(Ends(Write(node::kSystemClient)), kIllegalArgument);
  EXPECT_EQ(Ends(Write(ClientId{})), kIllegalArgument);
  EXPECT_EQ(Ends(Forward(kClient)), "");
  EXPECT_EQ(Ends(Forward(node::kSystemClient)), kIllegalArgument);
  EXPECT_EQ(Ends(Forward(ClientId{})), kIllegalArgument);
}

TEST_F(TakeRequest, F61_NonsenseEndsTheCall) {
  pb::RaftClientRequestProto proto = Write(kClient);
  proto.mutable_rpc_request()->set_requestor_id("short");
  EXPECT_EQ(Ends(proto), kIllegalState);
  proto = Write(kClient);
  proto.mutable_rpc_request()->mutable_raft_group_id()->set_id("short");
  EXPECT_EQ(Ends(proto), kIllegalState);
  proto = Write(kClient);
  proto.clear_write();
  EXPECT_EQ(Ends(proto), kIllegalArgument);
  proto = Write(kClient);
  proto.mutable_write()->set_replication(static_cast<pb::ReplicationLevel>(9));
  EXPECT_EQ(Ends(proto), kIllegalArgument);
  proto = Write(kClient);
  proto.mutable_watch()->set_index(uint64_t{1} << 63);
  EXPECT_EQ(Ends(proto), kIllegalArgument);
  proto = Write(kClient);
  proto.mutable_forward();  // of "x", which is no request
  EXPECT_EQ(Ends(proto), kIllegalArgument);
}

}  // namespace
}  // namespace sluice::edge::ratis
