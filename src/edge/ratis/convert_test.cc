#include "edge/ratis/convert.h"

#include <gtest/gtest.h>

#include "node/command.h"

namespace sluice::edge::ratis {
namespace {

raft::Peer Peer(std::string id, uint32_t priority = 0) {
  return {.id = {id},
          .address = "h:1",
          .data_stream_address = "h:2",
          .client_address = "h:3",
          .admin_address = "h:4",
          .priority = priority};
}

node::Command Command(node::CommandType type) {
  return {.type = type,
          .client = *ClientId::Parse("01020304-0506-0708-090a-0b0c0d0e0f10"),
          .call = CallId{77},
          .data = Bytes::Copy(std::string(3000, 'x'))};
}

raft::Entry RoundTrip(const raft::Entry& entry) {
  pb::LogEntryProto proto, parsed;
  EXPECT_TRUE(ToProto(entry, &proto).ok());
  EXPECT_TRUE(parsed.ParseFromString(proto.SerializeAsString()));
  auto back = TakeEntry(parsed);
  EXPECT_TRUE(back.ok()) << back.status();
  return back.ok() ? *back : raft::Entry{};
}

TEST(RatisConvert, CommandsComeBackTheSame) {
  for (auto type : {node::CommandType::kWrite, node::CommandType::kDataStream}) {
    const raft::Entry entry{
        {Term{3}, Index{5}}, raft::EntryKind::kCommand, node::EncodeCommand(Command(type))};
    const raft::Entry back = RoundTrip(entry);
    EXPECT_EQ(back.at, entry.at);
    EXPECT_EQ(back.payload, entry.payload);
  }
}

TEST(RatisConvert, CommandsTravelAsJavaWritesThem) {
  pb::LogEntryProto proto;
  const raft::Entry entry{{Term{3}, Index{5}},
                          raft::EntryKind::kCommand,
                          node::EncodeCommand(Command(node::CommandType::kDataStream))};
  ASSERT_TRUE(ToProto(entry, &proto).ok());
  EXPECT_EQ(proto.state_machine_log_entry().type(), pb::StateMachineLogEntryProto::DATASTREAM);
  EXPECT_EQ(proto.state_machine_log_entry().log_data(), std::string(3000, 'x'));
  EXPECT_EQ(ToHex(proto.state_machine_log_entry().client_id()), "0102030405060708090a0b0c0d0e0f10");
  EXPECT_EQ(proto.state_machine_log_entry().call_id(), 77u);
}

TEST(RatisConvert, JointConfigurationsComeBackTheSame) {
  const raft::Configuration configuration{.voters = {Peer("a", 2), Peer("b")},
                                          .old_voters = {Peer("a", 1)},
                                          .learners = {Peer("c")},
                                          .old_learners = {Peer("d")}};
  const raft::Entry entry{
      {Term{1}, Index{0}}, raft::EntryKind::kConfiguration, raft::EncodeConfiguration(configuration)};
  const raft::Entry back = RoundTrip(entry);
  EXPECT_EQ(back.kind, raft::EntryKind::kConfiguration);
  auto decoded = raft::DecodeConfiguration(back.payload);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, configuration);
}

TEST(RatisConvert, MetadataComesBackTheSame) {
  raft::Entry entry{
      {Term{1}, Index{2}}, raft::EntryKind::kMetadata, Bytes::Copy(std::string("\x05\0\0\0\0\0\0\0", 8))};
  const raft::Entry back = RoundTrip(entry);
  EXPECT_EQ(back.kind, raft::EntryKind::kMetadata);
  EXPECT_EQ(back.payload, entry.payload);
  for (const size_t size : {size_t{0}, size_t{7}, size_t{9}}) {
    entry.payload = Bytes::Take(std::string(size, 'x'));
    pb::LogEntryProto proto;
    EXPECT_FALSE(ToProto(entry, &proto).ok()) << size;
  }
}

TEST(RatisConvert, NoIndexTravelsAsTheHighestNumber) {
  EXPECT_EQ(ToWire(kNoIndex), UINT64_MAX);
  EXPECT_EQ(*IndexFromWire(UINT64_MAX), kNoIndex);
  EXPECT_FALSE(IndexFromWire(UINT64_MAX - 1).ok());
  EXPECT_FALSE(IndexFromWire(uint64_t{1} << 63).ok());
  EXPECT_FALSE(IndexFromWire(INT64_MAX).ok());
  EXPECT_EQ(IndexFromWire(0)->value, 0);
}

TEST(RatisConvert, AppendRequestsComeBackTheSame) {
  raft::AppendRequest append{.call = 9,
                             .term = Term{4},
                             .previous = {Term{2}, Index{0}},
                             .entries = {},
                             .commit = kNoIndex,
                             .initializing = true};
  append.entries.push_back({{Term{4}, Index{1}},
                            raft::EntryKind::kCommand,
                            node::EncodeCommand(Command(node::CommandType::kWrite))});
  pb::AppendEntriesRequestProto proto;
  ASSERT_TRUE(ToProto(append, &proto).ok());
  EXPECT_EQ(proto.leader_commit(), UINT64_MAX);
  auto back = TakeAppend(proto, 21);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->call, 21u);
  EXPECT_EQ(back->previous, append.previous);
  EXPECT_EQ(back->commit, kNoIndex);
  EXPECT_TRUE(back->initializing);
  ASSERT_EQ(back->entries.size(), 1u);
  EXPECT_EQ(back->entries[0].payload, append.entries[0].payload);
}

TEST(RatisConvert, F59_AppendsThatCannotBeRightAreRefused) {
  auto valid = [] {
    pb::AppendEntriesRequestProto proto;
    proto.set_leader_term(4);
    for (uint64_t i = 0; i < 3; ++i) {
      auto* entry = proto.add_entries();
      entry->set_term(3);
      entry->set_index(i);
      entry->mutable_state_machine_log_entry()->set_client_id(std::string(16, 'c'));
    }
    return proto;
  };
  auto refused = [](pb::AppendEntriesRequestProto proto) { return !TakeAppend(proto, 1).ok(); };
  EXPECT_FALSE(refused(valid()));
  auto gap = valid();
  gap.mutable_entries(2)->set_index(7);
  EXPECT_TRUE(refused(gap));
  auto future = valid();
  future.mutable_entries(1)->set_term(5);
  EXPECT_TRUE(refused(future));
  auto no_body = valid();
  no_body.mutable_entries(1)->clear_state_machine_log_entry();
  EXPECT_TRUE(refused(no_body));
  auto negative = valid();
  negative.set_leader_commit(UINT64_MAX - 5);
  EXPECT_TRUE(refused(negative));
  auto previous = valid();
  previous.mutable_previous_log()->set_term(2);
  previous.mutable_previous_log()->set_index(17);
  EXPECT_TRUE(refused(previous));
  auto short_client = valid();
  short_client.mutable_entries(0)->mutable_state_machine_log_entry()->set_client_id("c");
  EXPECT_TRUE(refused(short_client));
}

TEST(RatisConvert, RepliesComeBackTheSame) {
  const raft::AppendReply append{.call = 5,
                                 .term = Term{2},
                                 .result = raft::AppendResult::kInconsistency,
                                 .next = Index{4},
                                 .match = kNoIndex,
                                 .commit = Index{3},
                                 .heartbeat = true};
  pb::AppendEntriesReplyProto proto;
  ToProto(append, &proto);
  EXPECT_EQ(proto.match_index(), UINT64_MAX);
  proto.mutable_server_reply()->set_call_id(5);
  auto back = FromProto(proto);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->call, 5u);
  EXPECT_EQ(back->result, append.result);
  EXPECT_EQ(back->match, kNoIndex);
  EXPECT_TRUE(back->heartbeat);
  proto.set_result(static_cast<pb::AppendEntriesReplyProto::AppendResult>(9));
  EXPECT_FALSE(FromProto(proto).ok());

  const raft::VoteRequest request{.call = 8, .term = Term{6}, .last = {Term{0}, kNoIndex}, .pre_vote = true};
  pb::RequestVoteRequestProto vote;
  ToProto(request, &vote);
  EXPECT_FALSE(vote.has_candidate_last_entry());
  EXPECT_EQ(FromProto(vote, 8)->last.index, kNoIndex);
  pb::RequestVoteReplyProto voted;
  ToProto(raft::VoteReply{.term = Term{6}, .last = {Term{0}, kNoIndex}}, &voted);
  EXPECT_EQ(voted.last_entry().index(), UINT64_MAX);
  voted.mutable_server_reply()->set_success(true);
  auto reply = FromProto(voted, request);
  ASSERT_TRUE(reply.ok());
  EXPECT_TRUE(reply->granted && reply->pre_vote);
  EXPECT_EQ(reply->request_term, Term{6});
  EXPECT_EQ(reply->call, 8u);
}

TEST(RatisConvert, PeersThatCannotBeRightAreRefused) {
  pb::RaftConfigurationProto configuration;
  configuration.add_peers()->set_id("a");
  EXPECT_TRUE(FromProto(configuration).ok());
  configuration.add_peers()->set_id("a");
  EXPECT_FALSE(FromProto(configuration).ok());
  configuration.mutable_peers(0)->set_address("one:1");
  configuration.mutable_peers(1)->set_address("another:1");
  EXPECT_FALSE(FromProto(configuration).ok());
  configuration.mutable_peers(1)->set_id("");
  EXPECT_FALSE(FromProto(configuration).ok());
  configuration.mutable_peers(1)->set_id("\xff");
  EXPECT_FALSE(FromProto(configuration).ok());
  for (int i = 0; i < 300; ++i) configuration.add_listeners()->set_id(fmt::format("l{}", i));
  EXPECT_FALSE(FromProto(configuration).ok());
}

TEST(RatisConvert, D12_BlobHeadersAreChecked) {
  node::BlobHeader header{
      .name = "a/b", .expected_length = 7, .expected_digest = Sha256{}, .compute_digest = true};
  auto back = BlobHeaderFromWire(ToWire(header));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->name, "a/b");
  EXPECT_EQ(back->expected_length, 7u);
  EXPECT_EQ(back->expected_digest, Sha256{});
  EXPECT_FALSE(BlobHeaderFromWire("\xff\xff").ok());
  header.name = std::string("a\0b", 3);
  EXPECT_FALSE(BlobHeaderFromWire(ToWire(header)).ok());
  header.name = "sha256:" + std::string(64, '1');
  EXPECT_FALSE(BlobHeaderFromWire(ToWire(header)).ok());  // promises another digest
  header.expected_digest.reset();
  EXPECT_EQ(BlobHeaderFromWire(ToWire(header))->expected_digest->ToHex(), std::string(64, '1'));
}

}  // namespace
}  // namespace sluice::edge::ratis
