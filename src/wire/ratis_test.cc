#include "wire/ratis.h"

#include <gtest/gtest.h>

#include "sluice/blob.pb.h"
#include "sluice/ratis/example.pb.h"
#include "wire/test_vectors.h"

namespace sluice::wire {
namespace {

using ratis::common::RaftPeerProto;
using namespace std::string_literals;  // NOLINT(google-build-using-namespace): for "…"s

const GroupId kGroup = *GroupId::Parse("02511d47-d67c-49a3-9011-abb3109a44c1");

// A request that gets a reply with these ids.
RpcRequest RequestOf(const RpcReply& reply) {
  RpcRequest request;
  request.set_requestor_id(reply.requestor_id());
  *request.mutable_raft_group_id() = reply.raft_group_id();
  request.set_call_id(reply.call_id());
  return request;
}

// The same reply again, from our builders.
ClientReply Rebuild(const ClientReply& java) {
  const RpcRequest request = RequestOf(java.rpc_reply());
  const PeerId self{java.rpc_reply().reply_id()};
  const Index index = java.log_index() == 0 ? kNoIndex : IndexFromWire(java.log_index());
  switch (java.exception_details_case()) {
    case ClientReply::kNotLeaderException: {
      const auto& e = java.not_leader_exception();
      const std::vector<RaftPeerProto> peers(e.peers_in_conf().begin(), e.peers_in_conf().end());
      return NotLeaderReply(request, self, e.has_suggested_leader() ? &e.suggested_leader() : nullptr, peers);
    }
    case ClientReply::kNotReplicatedException:
      return NotReplicatedReply(request, self, java.not_replicated_exception().replication(), index);
    case ClientReply::kStateMachineException:
      return StateMachineErrorReply(request, self, java.state_machine_exception().exception_class_name(),
                                    java.state_machine_exception().error_msg(), index);
    default:
      if (!java.rpc_reply().success()) return PlainFailureReply(request, self);
      return SuccessReply(request, self, Bytes::Copy(java.message().content()), index);
  }
}

void ExpectRebuilt(const std::string& name, const std::string& bytes) {
  ClientReply java;
  ASSERT_TRUE(java.ParseFromString(bytes)) << name;
  EXPECT_EQ(ToHex(java.SerializeAsString()), ToHex(bytes)) << name;
  ClientReply ours = Rebuild(java);
  *ours.mutable_commit_infos() = java.commit_infos();
  if (java.has_state_machine_exception()) {  // Java's own has the frames of its stack
    java.mutable_state_machine_exception()->set_stacktrace(std::string(kEmptyJavaStackTrace));
  }
  EXPECT_EQ(ToHex(ours.SerializeAsString()), ToHex(java.SerializeAsString())) << name;
}

TEST(RatisVectors, RepliesAreRebuiltByteForByte) {
  size_t seen = 0;
  size_t exceptions = 0;
  for (const Vector& vector : LoadVectors("ratis-grpc-replies.txt")) {
    if (vector.line_name.find("java-") == 0) continue;
    ++seen;
    if (vector.line_name.find("groupInfo") != std::string::npos) {
      ratis::common::GroupInfoReplyProto info;
      ASSERT_TRUE(info.ParseFromString(vector.bytes));
      EXPECT_EQ(info.SerializeAsString(), vector.bytes);
      EXPECT_EQ(info.group().peers_size(), 3);
      EXPECT_EQ(info.role().role(), ratis::common::LEADER);
      EXPECT_TRUE(info.has_log_info());
    } else if (vector.line_name.find("groupList") != std::string::npos) {
      ratis::common::GroupListReplyProto list;
      ASSERT_TRUE(list.ParseFromString(vector.bytes));
      EXPECT_EQ(list.SerializeAsString(), vector.bytes);
      ASSERT_EQ(list.group_id_size(), 1);
      EXPECT_EQ(*ParseGroupId(list.group_id(0).id()), kGroup);
    } else {
      ExpectRebuilt(vector.line_name, vector.bytes);
      ClientReply reply;
      reply.ParseFromString(vector.bytes);
      exceptions += reply.exception_details_case() != ClientReply::EXCEPTION_DETAILS_NOT_SET;
    }
  }
  EXPECT_EQ(seen, 24u);
  EXPECT_EQ(exceptions, 4u);
}

TEST(RatisVectors, ForwardExchange) {
  std::vector<Vector> vectors = LoadVectors("ratis-datastream-forward-grpc.hex");
  ASSERT_EQ(vectors.size(), 6u);
  for (const Vector& vector : vectors) {
    if (!vector.is_request) {
      ExpectRebuilt("forward", vector.bytes);
      continue;
    }
    ratis::common::RaftClientRequestProto request;
    ASSERT_TRUE(request.ParseFromString(vector.bytes));
    EXPECT_EQ(request.SerializeAsString(), vector.bytes);
    if (!request.has_forward()) continue;
    ratis::common::RaftClientRequestProto inner;  // the header of the stream
    ASSERT_TRUE(inner.ParseFromString(request.message().content()));
    EXPECT_TRUE(inner.has_data_stream());
    EXPECT_EQ(inner.SerializeAsString(), request.message().content());
    ratis::example::FileStoreRequestProto content;
    ASSERT_TRUE(content.ParseFromString(inner.message().content()));
    EXPECT_EQ(content.stream().path(), "capw");
    EXPECT_EQ(content.stream().length(), 20u);
  }
  ClientReply last;
  ASSERT_TRUE(last.ParseFromString(vectors.back().bytes));
  ratis::example::StreamWriteReplyProto result;
  ASSERT_TRUE(result.ParseFromString(last.message().content()));
  EXPECT_TRUE(result.is_success());
  EXPECT_EQ(result.byte_written(), 20u);
}

TEST(RatisVectors, ConstantOfAnEmptyStackTrace) {
  const std::vector<Vector> vectors = LoadVectors("ratis-grpc-replies.txt");
  ASSERT_FALSE(vectors.empty());
  EXPECT_EQ(vectors.back().line_name, "java-empty-StackTraceElement-array");
  EXPECT_EQ(ToHex(kEmptyJavaStackTrace), ToHex(vectors.back().bytes));
  EXPECT_EQ(kEmptyJavaStackTrace.size(), 55u);
}

TEST(RatisReplies, D04_ReplyCarriesTheOwnIdWhateverWasAddressed) {
  RpcRequest request;
  request.set_requestor_id(std::string(16, 'c'));
  request.set_reply_id("127.0.0.1_10024");
  request.mutable_raft_group_id()->set_id(std::string(kGroup.AsBytes()));
  request.set_call_id(9);
  const ClientReply reply = SuccessReply(request, {"n1"}, Bytes(), Index{5});
  EXPECT_EQ(reply.rpc_reply().reply_id(), "n1");
  EXPECT_EQ(reply.rpc_reply().call_id(), 9u);
  EXPECT_FALSE(reply.has_message());
  EXPECT_EQ(reply.log_index(), 5u);
}

TEST(RatisReplies, NoExceptionEverComesWithSuccess) {
  RpcRequest request;
  request.set_requestor_id(std::string(16, 'c'));
  request.mutable_raft_group_id()->set_id(std::string(kGroup.AsBytes()));
  const PeerId self{"n1"};
  std::vector<ClientReply> replies = {
      NotLeaderReply(request, self, nullptr, {}), LeaderNotReadyReply(request, self),
      NotReplicatedReply(request, self, ratis::common::ALL, kNoIndex),
      StateMachineErrorReply(request, self, kIoException, "x"), AlreadyClosedReply(request, self, "x")};
  for (Throwable kind : {Throwable::kDataStream, Throwable::kLeaderSteppingDown,
                         Throwable::kTransferLeadership, Throwable::kRead, Throwable::kReadIndex}) {
    replies.push_back(ThrowableReply(request, self, kind, "x"));
  }
  std::vector<int> fields;
  for (const ClientReply& reply : replies) {
    EXPECT_FALSE(reply.rpc_reply().success());
    fields.push_back(reply.exception_details_case());
  }
  EXPECT_EQ(fields, (std::vector<int>{3, 6, 4, 5, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(replies[1].leader_not_ready_exception().server_id().group_id().id().size(), 16u);
  EXPECT_EQ(replies[4].already_closed_exception().stacktrace(), kEmptyJavaStackTrace);
  EXPECT_EQ(replies[9].read_index_exception().class_name(),
            "org.apache.ratis.protocol.exceptions.ReadIndexException");
}

TEST(RatisReplies, ALeaderNeverSuggestsItself) {
  RpcRequest request;
  RaftPeerProto self;
  self.set_id("n1");
  EXPECT_FALSE(NotLeaderReply(request, {"n1"}, &self, {}).not_leader_exception().has_suggested_leader());
  EXPECT_TRUE(NotLeaderReply(request, {"n2"}, &self, {}).not_leader_exception().has_suggested_leader());
}

TEST(RatisReplies, F69_StreamFailureHasIdsThatJavaCanDecode) {
  PacketHeader packet;
  packet.client.bytes[0] = 1;
  packet.type = PacketType::kStreamData;
  packet.stream = {7};
  packet.offset = 100;
  packet.data_length = 3;
  packet.close = true;
  const DataStreamReply failure =
      StreamFailure(packet, kGroup, {"n0"}, absl::FailedPreconditionError("offset 100, expected 0"));
  ReplyDecoder decoder;
  decoder.Feed(EncodeReply(failure));
  DataStreamReply reply;
  ASSERT_TRUE(*decoder.Next(&reply));
  EXPECT_FALSE(reply.success);
  EXPECT_EQ(reply.header.offset, 100u);
  EXPECT_EQ(reply.header.type, PacketType::kStreamData);
  EXPECT_FALSE(reply.header.close);
  ClientReply body;
  ASSERT_TRUE(body.ParseFromString(reply.body.ToString()));
  EXPECT_EQ(body.rpc_reply().requestor_id(), packet.client.AsBytes());
  EXPECT_EQ(*ParseGroupId(body.rpc_reply().raft_group_id().id()), kGroup);
  EXPECT_EQ(body.rpc_reply().call_id(), 7u);
  EXPECT_EQ(body.data_stream_exception().class_name(),
            "org.apache.ratis.protocol.exceptions.DataStreamException");
  EXPECT_EQ(body.data_stream_exception().error_message(),
            "java.lang.IllegalStateException from Server n0: FAILED_PRECONDITION: offset 100, expected 0");
}

TEST(RatisReplies, AStreamFailureKeepsItsCode) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError("name: 0 bytes"), absl::AlreadyExistsError("a"),
        absl::DataLossError("x: y"), absl::UnavailableError(""),
        absl::ResourceExhaustedError("INVALID_ARGUMENT: within the text")}) {
    ClientReply body;
    ASSERT_TRUE(body.ParseFromString(StreamFailure({}, kGroup, {"n0"}, status).body.ToString()));
    EXPECT_EQ(StatusOfStreamFailure(body.data_stream_exception().error_message()), status);
  }
  // From a Java server, and nonsense: worth another attempt.
  for (const char* text : {"java.io.IOException from Server s1: disk", "no words", "", " from Server ",
                           "x from Server y: INVALID_ARGUMENTS: z"}) {
    EXPECT_EQ(StatusOfStreamFailure(text), absl::AbortedError(text));
  }
}

TEST(RatisIds, F65_OnlySixteenBytesThatAreNotAllZero) {
  EXPECT_EQ(ParseGroupId(kGroup.AsBytes())->ToString(), "02511d47-d67c-49a3-9011-abb3109a44c1");
  for (size_t size : {0u, 15u, 17u}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseGroupId(std::string(size, 'g')).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(ParseClientId(std::string(size, 'g')).status()));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ParseGroupId(std::string(16, '\0')).status()));
  EXPECT_EQ(ShortName(kGroup), "group-ABB3109A44C1");
}

TEST(RatisIds, PeerIdsAreShortText) {
  EXPECT_EQ(ParsePeerId("n0")->value, "n0");
  for (const std::string& raw : {""s, std::string(256, 'x'), "a\0b"s, "\xff"s, "\xc0\x80"s}) {
    EXPECT_FALSE(ParsePeerId(raw).ok()) << ToHex(raw);
  }
}

TEST(RatisNumbers, NoIndexTravelsAsAllOnes) {
  EXPECT_EQ(ToWire(kNoIndex), UINT64_MAX);
  EXPECT_EQ(IndexFromWire(UINT64_MAX), kNoIndex);
  EXPECT_EQ(IndexFromWire(uint64_t{1} << 63), kNoIndex);
  EXPECT_EQ(IndexFromWire(ToWire(Index{396})), Index{396});
}

TEST(RatisNumbers, CounterPayload) {
  EXPECT_EQ(ToHex(EncodeInt32(1)), "00000001");
  EXPECT_EQ(ToHex(EncodeInt32(-2)), "fffffffe");
  for (int32_t value : {0, 1, -1, INT32_MAX, INT32_MIN}) EXPECT_EQ(*DecodeInt32(EncodeInt32(value)), value);
  EXPECT_FALSE(DecodeInt32("abc").ok());
  EXPECT_FALSE(DecodeInt32("").ok());
}

TEST(RatisFailures, CallsEndWithATypeAndAMessageForJava) {
  const CallFailure unknown = UnknownGroup({"n1"}, kGroup);
  EXPECT_EQ(unknown.exception_type, "org.apache.ratis.protocol.exceptions.GroupMismatchException");
  EXPECT_EQ(unknown.message, "n1: group-ABB3109A44C1 not found.");
  EXPECT_FALSE(ToCallFailure(absl::InternalError("")).message.empty());
  EXPECT_EQ(ToCallFailure(absl::InvalidArgumentError("no type")).exception_type,
            "java.lang.IllegalArgumentException");
}

// The bytes that docs/formats/datastream.md shows.
TEST(BlobHeader, D12_BytesAsDocumented) {
  BlobHeader header;
  header.set_name("a/b");
  header.set_expected_length(300);
  EXPECT_EQ(ToHex(header.SerializeAsString()), "0a03612f6210ac02");
  header.set_expected_length(0);  // known to be empty is not the same as unknown
  EXPECT_EQ(ToHex(header.SerializeAsString()), "0a03612f621000");
  header.clear_expected_length();
  header.set_expected_digest(std::string(32, '\x11'));
  header.set_no_digest(true);
  EXPECT_EQ(ToHex(header.SerializeAsString()).substr(0, 18), "0a03612f621a201111");
  EXPECT_EQ(ToHex(header.SerializeAsString()).substr(78), "2001");
}

}  // namespace
}  // namespace sluice::wire
