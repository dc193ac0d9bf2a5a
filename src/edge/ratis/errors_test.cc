#include "edge/ratis/errors.h"

#include <gtest/gtest.h>

#include <set>

namespace sluice::edge::ratis {
namespace {

using node::ReplyCode;

ReplyContext Context() {
  ReplyContext context;
  context.self = {"n1"};
  context.client = *ClientId::Parse("11111111-1111-1111-1111-111111111111");
  context.group = *GroupId::Parse("02511d47-d67c-49a3-9011-abb3109a44c1");
  context.call = 12;
  return context;
}

node::ClientReply Reply(ReplyCode code) {
  node::ClientReply reply;
  reply.code = code;
  if (code != ReplyCode::kOk) reply.error = absl::InvalidArgumentError("because");
  reply.log_index = Index{9};
  return reply;
}

TEST(RatisErrors, EmptyStackTraceIsWhatJavaWrites) {
  EXPECT_EQ(
      ToHex(EmptyStackTrace()),
      "aced00057572001e5b4c6a6176612e6c616e672e537461636b5472616365456c656d656e743b02462a3c3cfd22390200007870"
      "00000000");
}

TEST(RatisErrors, EveryCodeHasItsRow) {
  const auto last = static_cast<uint8_t>(ReplyCode::kUnavailable);
  std::set<ReplyCode> seen;
  for (const ErrorRow& row : ErrorTable()) EXPECT_TRUE(seen.insert(row.code).second);
  for (uint8_t code = 0; code <= last; ++code)
    EXPECT_TRUE(seen.contains(static_cast<ReplyCode>(code))) << int{code};
}

TEST(RatisErrors, SuccessNeverComesWithAnExceptionAndFailureNeverWithSuccess) {
  for (const ErrorRow& row : ErrorTable()) {
    pb::RaftClientReplyProto out;
    const auto failure = FillReply(Context(), Reply(row.code), &out);
    EXPECT_EQ(failure.has_value(), row.carrier == Carrier::kCallStatus) << int(row.code);
    if (failure) {
      EXPECT_FALSE(failure->description.empty());
      EXPECT_NE(failure->code, grpc::StatusCode::OK);
      continue;
    }
    const bool excepted = out.exception_details_case() != pb::RaftClientReplyProto::EXCEPTION_DETAILS_NOT_SET;
    EXPECT_EQ(out.rpc_reply().success(), row.code == ReplyCode::kOk);
    EXPECT_EQ(excepted, row.code != ReplyCode::kOk);
    EXPECT_EQ(out.rpc_reply().call_id(), 12u);
    EXPECT_EQ(out.rpc_reply().reply_id(), "n1");
    EXPECT_EQ(out.rpc_reply().requestor_id().size(), 16u);
    EXPECT_EQ(out.rpc_reply().raft_group_id().id().size(), 16u);
  }
}

TEST(RatisErrors, ThrowablesCarryTheClassOfTheirField) {
  auto fill = [](ReplyCode code) {
    pb::RaftClientReplyProto out;
    EXPECT_FALSE(FillReply(Context(), Reply(code), &out).has_value());
    return out;
  };
  const std::string package = "org.apache.ratis.protocol.exceptions.";
  EXPECT_EQ(fill(ReplyCode::kSteppingDown).leader_stepping_down_exception().class_name(),
            package + "LeaderSteppingDownException");
  EXPECT_EQ(fill(ReplyCode::kReadIndex).read_index_exception().class_name(), package + "ReadIndexException");
  EXPECT_EQ(fill(ReplyCode::kReadTimeout).read_exception().class_name(), package + "ReadException");
  EXPECT_EQ(fill(ReplyCode::kDataStream).data_stream_exception().class_name(),
            package + "DataStreamException");
  EXPECT_EQ(fill(ReplyCode::kReadIndex).read_index_exception().error_message(), "because");
}

TEST(RatisErrors, NotLeaderNamesTheLeaderAndEveryPeerButNeverItself) {
  node::ClientReply reply = Reply(ReplyCode::kNotLeader);
  reply.log_index = kNoIndex;
  reply.leader = raft::Peer{.id = {"n2"}, .address = "h:3", .client_address = "h:4"};
  reply.peers = {{.id = {"n1"}, .address = "h:2"}, *reply.leader};
  pb::RaftClientReplyProto out;
  ASSERT_FALSE(FillReply(Context(), reply, &out).has_value());
  EXPECT_EQ(out.not_leader_exception().suggested_leader().id(), "n2");
  EXPECT_EQ(out.not_leader_exception().suggested_leader().client_address(), "h:4");
  EXPECT_EQ(out.not_leader_exception().peers_in_conf_size(), 2);
  EXPECT_EQ(out.log_index(), 0u);
  reply.leader->id = {"n1"};
  out.Clear();
  ASSERT_FALSE(FillReply(Context(), reply, &out).has_value());
  EXPECT_FALSE(out.not_leader_exception().has_suggested_leader());
}

TEST(RatisErrors, StateMachineErrorsNameAJavaClass) {
  ReplyContext context = Context();
  pb::RaftClientReplyProto out;
  ASSERT_FALSE(FillReply(context, Reply(ReplyCode::kStateMachine), &out).has_value());
  EXPECT_EQ(out.state_machine_exception().exception_class_name(), "java.lang.IllegalArgumentException");
  EXPECT_EQ(out.state_machine_exception().stacktrace().size(), 55u);
  EXPECT_EQ(out.log_index(), 9u);
  context.kind = node::RequestKind::kStaleRead;
  node::ClientReply stale = Reply(ReplyCode::kStateMachine);
  stale.error = absl::OutOfRangeError("commit 3 < 9");
  ASSERT_FALSE(FillReply(context, stale, &out).has_value());
  EXPECT_EQ(out.state_machine_exception().exception_class_name(),
            "org.apache.ratis.protocol.exceptions.StaleReadException");
}

TEST(RatisErrors, NotReplicatedRepeatsTheQuestion) {
  ReplyContext context = Context();
  context.kind = node::RequestKind::kWatch;
  context.asked = Index{1'000'000};
  context.replication = node::Replication::kAll;
  pb::RaftClientReplyProto out;
  ASSERT_FALSE(FillReply(context, Reply(ReplyCode::kNotReplicated), &out).has_value());
  EXPECT_EQ(out.not_replicated_exception().call_id(), 12u);
  EXPECT_EQ(out.not_replicated_exception().replication(), pb::ALL);
  EXPECT_EQ(out.not_replicated_exception().log_index(), 1'000'000u);
  EXPECT_EQ(out.log_index(), 1'000'000u);
}

TEST(RatisErrors, GroupMismatchReadsLikeJavas) {
  const CallFailure failure = GroupMismatch({"n1"}, Context().group);
  EXPECT_EQ(failure.description, "n1: group-ABB3109A44C1 not found.");
  EXPECT_EQ(failure.exception, "org.apache.ratis.protocol.exceptions.GroupMismatchException");
  EXPECT_EQ(failure.code, grpc::StatusCode::INTERNAL);
}

}  // namespace
}  // namespace sluice::edge::ratis
