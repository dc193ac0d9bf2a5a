#include "edge/server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <thread>

#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>

#include "base/temp_folder_for_test.h"
#include "edge/datastream/socket.h"
#include "edge/fake_host_for_test.h"
#include "edge/peer/peer_service.h"
#include "node/snapshot_file.h"
#include "sluice/admin.grpc.pb.h"
#include "sluice/peer.grpc.pb.h"
#include "sluice/ratis/grpc.grpc.pb.h"
#include "wire/handshake.h"

namespace sluice::edge {
namespace {

namespace pb = ::sluice::ratis::common;
using ClientStub = ::sluice::ratis::grpc::RaftClientProtocolService::Stub;
using Stream = grpc::ClientReaderWriter<pb::RaftClientRequestProto, pb::RaftClientReplyProto>;

const GroupId kGroup = *GroupId::Parse("02511d47-d67c-49a3-9011-abb3109a44c1");
const ClientId kClient = *ClientId::Parse("11111111-2222-3333-4444-555555555555");

std::string Raw(std::string_view bytes) { return std::string(bytes); }

pb::RaftClientRequestProto Write(uint64_t call, const std::string& content, uint64_t seq = 0,
                                 bool first = false) {
  pb::RaftClientRequestProto request;
  auto* header = request.mutable_rpc_request();
  header->set_requestor_id(Raw(kClient.AsBytes()));
  header->set_reply_id("somebody");
  header->mutable_raft_group_id()->set_id(Raw(kGroup.AsBytes()));
  header->set_call_id(call);
  if (seq > 0) {
    header->mutable_sliding_window_entry()->set_seq_num(seq);
    header->mutable_sliding_window_entry()->set_is_first(first);
  }
  request.mutable_message()->set_content(content);
  request.mutable_write();
  return request;
}

std::string Trailer(const grpc::ClientContext& context, const char* key) {
  const auto it = context.GetServerTrailingMetadata().find(key);
  return it == context.GetServerTrailingMetadata().end() ? ""
                                                         : std::string(it->second.data(), it->second.size());
}

// A server over a fake host that appends "ok:" to every write and remembers replies by call id.
class ServerTest : public testing::Test {
 protected:
  ServerTest() : host_("n0", {kGroup}) {
    host_.on_submit = [this](node::ClientRequest request, node::ReplyFn reply) {
      const std::string content = request.message.ToString();
      if (content == "hold") {
        std::lock_guard lock(host_.mutex);
        held_.push_back(std::move(reply));
        return;
      }
      auto [it, fresh] = results_.try_emplace(request.call.value, "ok:" + content);
      if (fresh) ++executed_;
      reply({.code = node::ReplyCode::kOk,
             .error = {},
             .message = Bytes::Copy(it->second),
             .log_index = Index{static_cast<int64_t>(executed_)},
             .leader = {},
             .peers = {}});
    };
    host_.on_status = [this] {
      node::HostStatus status;
      status.self = host_.options().self;
      node::GroupStatus group;
      group.id = kGroup;
      group.machine = "counter";
      group.role = raft::Role::kLeader;
      group.term = Term{3};
      group.leader = {"n0"};
      group.last = {Term{3}, Index{8}};
      group.commit = group.applied = Index{7};
      group.configuration.voters = {{.id = {"n0"}, .address = "h:1"}, {.id = {"n1"}, .address = "h:2"}};
      group.progress = {
          {.id = {"n1"}, .match = Index{6}, .next = Index{7}, .commit = Index{5}, .active = true}};
      group.commits = {{{.id = {"n1"}, .address = "h:2"}, Index{5}},
                       {{.id = {"n0"}, .address = "h:1"}, Index{7}}};
      status.groups = {group};
      return status;
    };
    auto server = Server::Create(&host_, {.listen = "127.0.0.1:0", .data_stream_listen = ""});
    EXPECT_TRUE(server.ok());
    server_ = *std::move(server);
    EXPECT_TRUE(server_->Listen().ok());
    address_ = fmt::format("127.0.0.1:{}", server_->port());
    channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
    stub_ = ::sluice::ratis::grpc::RaftClientProtocolService::NewStub(channel_);
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
  ~ServerTest() override {
    context_.TryCancel();
    AnswerHeld(node::ReplyCode::kUnavailable);
    server_->Stop(std::chrono::milliseconds(200));
  }

  void AnswerHeld(node::ReplyCode code = node::ReplyCode::kOk) {
    std::vector<node::ReplyFn> held;
    {
      std::lock_guard lock(host_.mutex);
      held.swap(held_);
    }
    for (node::ReplyFn& reply : held) {
      node::ClientReply answer;
      answer.code = code;
      if (code != node::ReplyCode::kOk) answer.error = absl::UnavailableError("answered by the test");
      reply(std::move(answer));
    }
  }
  bool AwaitHeld(size_t count) {
    return host_.Await([this, count] { return held_.size() >= count; });
  }
  // Sends one request on a call of its own and gives the status.
  grpc::Status Once(const pb::RaftClientRequestProto& request, pb::RaftClientReplyProto* reply) {
    auto stream = stub_->unordered(&context_);
    stream->Write(request);
    stream->WritesDone();
    stream->Read(reply);
    return stream->Finish();
  }

  FakeHost host_;
  std::vector<node::ReplyFn> held_;  // guarded by host_.mutex
  std::map<uint64_t, std::string> results_;
  int executed_ = 0;
  std::unique_ptr<Server> server_;
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<ClientStub> stub_;
  grpc::ClientContext context_;
};

TEST_F(ServerTest, BlockingWriteIsOneRequestOneReply) {
  pb::RaftClientReplyProto reply;
  const grpc::Status status = Once(Write(5, "INCREMENT"), &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(reply.rpc_reply().success());
  EXPECT_EQ(reply.rpc_reply().call_id(), 5u);
  EXPECT_EQ(reply.rpc_reply().reply_id(), "n0");  // D-04: not the id that was addressed
  EXPECT_EQ(reply.rpc_reply().requestor_id(), Raw(kClient.AsBytes()));
  EXPECT_EQ(reply.message().content(), "ok:INCREMENT");
  EXPECT_EQ(reply.log_index(), 1u);
}

TEST_F(ServerTest, RepliesTellCommitsOwnServerFirst) {
  auto stream = stub_->unordered(&context_);
  pb::RaftClientReplyProto reply;
  // The first reply asks for the facts; one soon after has them.
  for (uint64_t call = 1; call < 10'000 && reply.commit_infos_size() == 0; ++call) {
    ASSERT_TRUE(stream->Write(Write(call, "x")));
    ASSERT_TRUE(stream->Read(&reply));
  }
  ASSERT_EQ(reply.commit_infos_size(), 2);
  EXPECT_EQ(reply.commit_infos(0).server().id(), "n0");
  EXPECT_GE(reply.commit_infos(0).commit_index(), 7u);
  EXPECT_EQ(reply.commit_infos(1).commit_index(), 5u);
}

TEST_F(ServerTest, TwoIdenticalRequestsGetTwoRepliesAndRunOnce) {
  auto stream = stub_->unordered(&context_);
  for (int i = 0; i < 2; ++i) stream->Write(Write(5, "a"));
  stream->WritesDone();
  pb::RaftClientReplyProto first, second;
  ASSERT_TRUE(stream->Read(&first) && stream->Read(&second));
  EXPECT_EQ(first.message().content(), second.message().content());
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(executed_, 1);
}

TEST_F(ServerTest, OrderedRunsInOrderOfNumbers) {
  auto stream = stub_->ordered(&context_);
  stream->Write(Write(70, "7", 7, true));
  stream->Write(Write(90, "9", 9));
  stream->Write(Write(80, "8", 8));
  for (const char* expected : {"ok:7", "ok:8", "ok:9"}) {
    pb::RaftClientReplyProto reply;
    ASSERT_TRUE(stream->Read(&reply));
    EXPECT_EQ(reply.message().content(), expected);
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, HalfCloseGivesUpTheGapAndAnswersWhatRuns) {
  auto stream = stub_->ordered(&context_);
  stream->Write(Write(70, "hold", 7, true));
  stream->Write(Write(90, "9", 9));
  stream->WritesDone();
  ASSERT_TRUE(AwaitHeld(1));
  pb::RaftClientReplyProto reply;
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_EQ(reply.rpc_reply().call_id(), 90u);
  EXPECT_EQ(reply.already_closed_exception().stacktrace().size(), 55u);
  AnswerHeld();
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_EQ(reply.rpc_reply().call_id(), 70u);
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, OrderedCallWithoutAFirstEndsOnHalfClose) {
  auto stream = stub_->ordered(&context_);
  stream->Write(Write(2, "x", 2));
  stream->WritesDone();
  pb::RaftClientReplyProto reply;
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_TRUE(reply.has_already_closed_exception());
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(executed_, 0);
}

TEST_F(ServerTest, LostLeadershipCompletesOrderedCallsAfterTheirAnswers) {
  auto stream = stub_->ordered(&context_);
  stream->Write(Write(1, "hold", 1, true));
  ASSERT_TRUE(AwaitHeld(1));
  host_.LoseLeadership(kGroup);
  AnswerHeld(node::ReplyCode::kNotLeader);
  pb::RaftClientReplyProto reply;
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_TRUE(reply.has_not_leader_exception());
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, OrderedWithoutWindowEntryIsAnErrorOfTheCall) {
  auto stream = stub_->ordered(&context_);
  stream->Write(Write(1, "x"));
  pb::RaftClientReplyProto reply;
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Trailer(context_, "exception-type"), "java.lang.IllegalArgumentException");
}

TEST_F(ServerTest, F67_FarFutureNumberEndsTheCall) {
  auto stream = stub_->ordered(&context_);
  stream->Write(Write(1, "x", 1, true));
  stream->Write(Write(2, "y", 1'000'000));
  pb::RaftClientReplyProto reply;
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Trailer(context_, "exception-type"),
            "org.apache.ratis.protocol.exceptions.ResourceUnavailableException");
}

TEST_F(ServerTest, F65_UnknownGroupIsAMismatch) {
  pb::RaftClientRequestProto request = Write(1, "x");
  request.mutable_rpc_request()->mutable_raft_group_id()->set_id(std::string(16, '\x7f'));
  pb::RaftClientReplyProto reply;
  const grpc::Status status = Once(request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "n0: group-7F7F7F7F7F7F not found.");
  EXPECT_EQ(Trailer(context_, "exception-type"),
            "org.apache.ratis.protocol.exceptions.GroupMismatchException");
}

TEST_F(ServerTest, F65_F66_IdsOfWrongSizeAreErrorsAndTheServerLives) {
  for (size_t size : {0u, 15u, 17u}) {
    for (bool group : {true, false}) {
      pb::RaftClientRequestProto request = Write(1, "x");
      auto* header = request.mutable_rpc_request();
      (group ? header->mutable_raft_group_id()->mutable_id() : header->mutable_requestor_id())
          ->assign(size, 'i');
      grpc::ClientContext context;
      auto stream = stub_->unordered(&context);
      stream->Write(request);
      pb::RaftClientReplyProto reply;
      EXPECT_FALSE(stream->Read(&reply));
      EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INTERNAL);
      EXPECT_EQ(Trailer(context, "exception-type"), "java.lang.IllegalStateException");
    }
  }
  pb::RaftClientReplyProto reply;
  EXPECT_TRUE(Once(Write(1, "x"), &reply).ok());
}

TEST_F(ServerTest, RequestWithoutTypeIsAnErrorOfTheCall) {
  pb::RaftClientRequestProto request = Write(1, "x");
  request.clear_type();
  pb::RaftClientReplyProto reply;
  EXPECT_EQ(Once(request, &reply).error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Trailer(context_, "exception-type"), "java.lang.IllegalArgumentException");
}

TEST_F(ServerTest, ShellSeesGroupsAndRoles) {
  auto admin = ::sluice::ratis::grpc::AdminProtocolService::NewStub(channel_);
  pb::GroupListRequestProto list;
  *list.mutable_rpc_request() = Write(1, "").rpc_request();
  list.mutable_rpc_request()->mutable_raft_group_id()->set_id(std::string(16, 'r'));  // the shell invents one
  pb::GroupListReplyProto groups;
  ASSERT_TRUE(admin->groupList(&context_, list, &groups).ok());
  ASSERT_EQ(groups.group_id_size(), 1);
  EXPECT_EQ(groups.group_id(0).id(), Raw(kGroup.AsBytes()));
  EXPECT_EQ(groups.rpc_reply().raft_group_id().id(), std::string(16, 'r'));

  pb::GroupInfoRequestProto ask;
  *ask.mutable_rpc_request() = Write(2, "").rpc_request();
  pb::GroupInfoReplyProto info;
  grpc::ClientContext context;
  ASSERT_TRUE(admin->groupInfo(&context, ask, &info).ok());
  EXPECT_EQ(info.role().leader_info().term(), 3u);
  ASSERT_EQ(info.role().leader_info().follower_info_size(), 1);
  EXPECT_EQ(info.role().leader_info().follower_info(0).id().id(), "n1");
  EXPECT_EQ(info.conf().peers_size(), 2);
  EXPECT_EQ(info.log_info().committed().index(), 7u);
  EXPECT_FALSE(info.log_info().has_last_snapshot());

  pb::TransferLeadershipRequestProto transfer;
  pb::RaftClientReplyProto reply;
  grpc::ClientContext refused;
  EXPECT_EQ(admin->transferLeadership(&refused, transfer, &reply).error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Trailer(refused, "exception-type"), "java.lang.UnsupportedOperationException");
}

TEST_F(ServerTest, CommandLineSeesStatusAndNames) {
  auto admin = ::sluice::admin::Admin::NewStub(channel_);
  ::sluice::admin::StatusReply status;
  ASSERT_TRUE(admin->Status(&context_, {}, &status).ok());
  ASSERT_EQ(status.groups_size(), 1);
  EXPECT_EQ(status.groups(0).role(), "leader");
  EXPECT_EQ(status.groups(0).progress(0).lag(), 2);
  EXPECT_EQ(status.pid(), getpid());

  ::sluice::admin::ListRequest list;
  list.set_group(Raw(kGroup.AsBytes()));
  list.set_prefix("p");
  list.set_limit(3);
  ::sluice::admin::ListReply listed;
  grpc::ClientContext context;
  ASSERT_TRUE(admin->List(&context, list, &listed).ok());
  EXPECT_EQ(listed.blobs_size(), 3);
  EXPECT_TRUE(listed.more());

  ::sluice::admin::StatRequest stat;
  stat.set_group(Raw(kGroup.AsBytes()));
  stat.set_name("gone");
  ::sluice::admin::Blob blob;
  grpc::ClientContext missing;
  EXPECT_EQ(admin->Stat(&missing, stat, &blob).error_code(), grpc::StatusCode::NOT_FOUND);
  grpc::ClientContext no_group;
  stat.clear_group();  // the default group is not here
  EXPECT_EQ(admin->Stat(&no_group, stat, &blob).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, F61_GarbageEndsTheCallAndTheServerLives) {
  const std::vector<std::string> methods = {"/ratis.grpc.RaftClientProtocolService/ordered",
                                            "/ratis.grpc.RaftClientProtocolService/unordered",
                                            "/ratis.grpc.RaftServerProtocolService/requestVote",
                                            "/ratis.grpc.RaftServerProtocolService/readIndex",
                                            "/ratis.grpc.RaftServerProtocolService/appendEntries",
                                            "/ratis.grpc.RaftServerProtocolService/installSnapshot",
                                            "/ratis.grpc.RaftServerProtocolService/startLeaderElection",
                                            "/ratis.grpc.AdminProtocolService/groupInfo",
                                            "/ratis.grpc.AdminProtocolService/groupList",
                                            "/sluice.peer.Peer/Have",
                                            "/sluice.peer.Peer/Publish",
                                            "/sluice.peer.Peer/Remove",
                                            "/sluice.peer.Peer/OrderFetch",
                                            "/sluice.peer.Peer/Sealed",
                                            "/sluice.peer.Peer/QueryWrite",
                                            "/sluice.admin.Admin/List",
                                            "/sluice.admin.Admin/Stat"};
  const std::vector<std::string> garbage = {"\xff\xff\xff\xff\xff", std::string(1 << 20, '\x0b'),
                                            std::string("\x0a\x7f", 2), ""};
  grpc::GenericStub stub(channel_);
  for (const std::string& method : methods) {
    for (const std::string& bytes : garbage) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
      grpc::CompletionQueue queue;
      grpc::Slice slice(bytes);
      grpc::ByteBuffer request(&slice, 1), reply;
      auto call = stub.PrepareCall(&context, method, &queue);
      grpc::Status status;
      void* tag;
      bool ok;
      call->StartCall(nullptr);
      queue.Next(&tag, &ok);
      call->Write(request, nullptr);
      queue.Next(&tag, &ok);
      call->WritesDone(nullptr);
      queue.Next(&tag, &ok);
      call->Finish(&status, nullptr);
      queue.Next(&tag, &ok);
      EXPECT_NE(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << method;
      // On a stream, gRPC tells a reactor of bytes that do not parse as of the end of the stream.
      const bool stream =
          method.ends_with("rdered") || method.ends_with("Entries") || method.ends_with("Snapshot");
      if (!stream || bytes.empty()) {
        EXPECT_FALSE(status.ok()) << method << " of " << bytes.size();
      }
    }
  }
  pb::RaftClientReplyProto reply;
  EXPECT_TRUE(Once(Write(1, "x"), &reply).ok());
}

TEST_F(ServerTest, K16_AClientOfGrpcWhoseMachineIsGoneIsNoticed) {
  asio::io_context context;
  asio::ip::tcp::socket client(context);
  client.connect({asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(server_->port())});
  char settings[9];  // gRPC has the connection when it speaks
  asio::read(client, asio::buffer(settings));
  // The other end is in this process.
  const auto other_end = [&] {
    const int most = 1024;
    for (int fd = 0; fd < most; ++fd) {
      sockaddr_in peer{};
      socklen_t size = sizeof(peer);
      if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 && peer.sin_family == AF_INET &&
          ntohs(peer.sin_port) == client.local_endpoint().port())
        return fd;
    }
    return -1;
  }();
  ASSERT_GE(other_end, 0);
  const auto option = [&](int level, int name) {
    int value = 0;
    socklen_t size = sizeof(value);
    EXPECT_EQ(getsockopt(other_end, level, name, &value, &size), 0);
    return value;
  };
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), datastream::kDeadAfterMs);
  EXPECT_LE(option(IPPROTO_TCP, TCP_KEEPIDLE), datastream::kDeadAfterMs / 1000);
}

TEST_F(ServerTest, PortInUseIsNamed) {
  FakeHost other("n1", {kGroup});
  auto server = Server::Create(&other, {.listen = address_, .data_stream_listen = ""});
  ASSERT_TRUE(server.ok());
  const absl::Status status = (*server)->Listen();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.ToString(), testing::HasSubstr(address_));
}

TEST_F(ServerTest, F40_StopRefusesNewCallsAnswersRunningOnesAndMayBeRepeated) {
  auto stream = stub_->unordered(&context_);
  stream->Write(Write(1, "hold"));
  ASSERT_TRUE(AwaitHeld(1));
  server_->Drain();
  grpc::ClientContext late;
  auto refused = stub_->unordered(&late);
  EXPECT_EQ(refused->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  AnswerHeld();
  pb::RaftClientReplyProto reply;
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_TRUE(reply.rpc_reply().success());
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  server_->Stop(std::chrono::milliseconds(200));
  server_->Stop(std::chrono::milliseconds(200));
}

// Two servers that talk to each other.
class TwoServersTest : public ServerTest {
 protected:
  TwoServersTest() : other_host_("n1", {kGroup}) {
    auto other = Server::Create(&other_host_, {.listen = "127.0.0.1:0", .data_stream_listen = ""});
    EXPECT_TRUE(other.ok());
    other_ = *std::move(other);
    EXPECT_TRUE(other_->Listen().ok());
    peer_ = {.id = {"n1"}, .address = fmt::format("127.0.0.1:{}", other_->port())};
    host_.on_step = [this](const GroupId&, const PeerId& from, raft::Message message) {
      std::lock_guard lock(host_.mutex);
      replies_.emplace_back(from, std::move(message));
    };
  }
  ~TwoServersTest() override {
    server_->Stop(std::chrono::milliseconds(200));
    other_->Stop(std::chrono::milliseconds(200));
  }
  bool AwaitReplies(size_t count) {
    return host_.Await([this, count] { return replies_.size() >= count; });
  }

  FakeHost other_host_;
  std::unique_ptr<Server> other_;
  raft::Peer peer_;
  std::vector<std::pair<PeerId, raft::Message>> replies_;  // guarded by host_.mutex
};

TEST_F(TwoServersTest, AppendsAndHeartbeatsGoThereAndBack) {
  other_host_.on_step = [this](const GroupId& group, const PeerId& from, raft::Message message) {
    const auto& append = std::get<raft::AppendRequest>(message);
    const Index last = append.entries.empty() ? kNoIndex : append.entries.back().at.index;
    other_->peers().Send(group, {.id = from},
                         raft::AppendReply{.call = append.call,
                                           .term = append.term,
                                           .next = last.Next(),
                                           .match = last,
                                           .commit = append.commit});
  };
  raft::AppendRequest append{
      .call = 41, .term = Term{2}, .previous = {Term{0}, kNoIndex}, .entries = {}, .commit = kNoIndex};
  for (int64_t i = 0; i < 100; ++i) {
    append.entries.push_back(
        {{Term{2}, Index{i}}, raft::EntryKind::kMetadata, Bytes::Copy(std::string(8, '\0'))});
  }
  server_->peers().Send(kGroup, peer_, append);
  ASSERT_TRUE(AwaitReplies(1));
  auto reply = std::get<raft::AppendReply>(replies_[0].second);
  EXPECT_EQ(replies_[0].first.value, "n1");
  EXPECT_EQ(reply.call, 41u);
  EXPECT_EQ(reply.match, Index{99});
  EXPECT_FALSE(reply.heartbeat);

  append.call = 42;
  append.entries.clear();
  server_->peers().Send(kGroup, peer_, append);
  ASSERT_TRUE(AwaitReplies(2));
  reply = std::get<raft::AppendReply>(replies_[1].second);
  EXPECT_EQ(reply.call, 42u);
  EXPECT_EQ(reply.match, kNoIndex);
  EXPECT_TRUE(reply.heartbeat);
}

TEST_F(TwoServersTest, VotesReadIndexAndTimeoutNowGoThereAndBack) {
  other_host_.on_step = [this](const GroupId& group, const PeerId& from, raft::Message message) {
    const raft::Peer to{.id = from};
    if (auto* vote = std::get_if<raft::VoteRequest>(&message)) {
      other_->peers().Send(
          group, to,
          raft::VoteReply{.call = vote->call, .term = Term{6}, .granted = true, .last = {Term{0}, kNoIndex}});
    } else if (auto* read = std::get_if<raft::ReadIndexRequest>(&message)) {
      other_->peers().Send(group, to,
                           raft::ReadIndexReply{.call = read->call, .ok = true, .index = Index{12}});
    } else if (auto* now = std::get_if<raft::TimeoutNow>(&message)) {
      other_->peers().Send(group, to, raft::TimeoutNowReply{.call = now->call, .accepted = true});
    }
  };
  server_->peers().Send(
      kGroup, peer_,
      raft::VoteRequest{.call = 5, .term = Term{6}, .last = {Term{1}, Index{3}}, .pre_vote = true});
  ASSERT_TRUE(AwaitReplies(1));
  const auto vote = std::get<raft::VoteReply>(replies_[0].second);
  EXPECT_TRUE(vote.granted && vote.pre_vote);
  EXPECT_EQ(vote.call, 5u);
  EXPECT_EQ(vote.request_term, Term{6});
  EXPECT_EQ(vote.last.index, kNoIndex);
  server_->peers().Send(kGroup, peer_, raft::ReadIndexRequest{.call = 7});
  ASSERT_TRUE(AwaitReplies(2));
  EXPECT_EQ(std::get<raft::ReadIndexReply>(replies_[1].second).index, Index{12});
  EXPECT_EQ(std::get<raft::ReadIndexReply>(replies_[1].second).call, 7u);
  server_->peers().Send(kGroup, peer_, raft::TimeoutNow{.call = 8, .leader_last = {Term{1}, Index{3}}});
  ASSERT_TRUE(AwaitReplies(3));
  EXPECT_TRUE(std::get<raft::TimeoutNowReply>(replies_[2].second).accepted);
}

TEST_F(TwoServersTest, ADeadPeerIsReportedUnreachable) {
  other_->Stop(std::chrono::milliseconds(100));
  server_->peers().Send(
      kGroup, peer_,
      raft::AppendRequest{.call = 1, .term = Term{1}, .previous = {Term{0}, kNoIndex}, .commit = kNoIndex});
  EXPECT_TRUE(host_.Await([this] { return host_.unreachable.contains(PeerId{"n1"}); }));
}

class SnapshotTest : public TwoServersTest {
 protected:
  SnapshotTest() {
    other_host_.snapshots = dir_ + "/incoming";
    content_.assign(node::kSnapshotMagic);
    for (size_t i = content_.size(); i < 3'500'000; ++i) content_.push_back(static_cast<char>(i * 31 >> 3));
    Write(content_);
    offer_.group = kGroup;
    offer_.leader_term = Term{4};
    offer_.at = {Term{3}, Index{1200}};
    offer_.path = dir_ + "/s";
  }
  void Write(const std::string& content) {
    ASSERT_TRUE(env::WriteFileDurably(env::RealFiles(), dir_ + "/s", Bytes::Copy(content)).ok());
  }
  absl::Status Send(const raft::Peer& to) {
    std::optional<absl::Status> outcome;
    server_->peers().SendSnapshot(offer_, to, &server_->lane(0), [&](absl::Status status) {
      std::lock_guard lock(host_.mutex);
      outcome = std::move(status);
      host_.changed.notify_all();
    });
    EXPECT_TRUE(host_.Await([&] { return outcome.has_value(); }));
    return outcome.value_or(absl::UnknownError("no outcome"));
  }
  // What a failed transfer left at the receiver.
  std::vector<std::string> Left() {
    return env::RealFiles().List(other_host_.snapshots).value_or(std::vector<std::string>());
  }

  const TempFolder folder_;
  const std::string dir_ = folder_.path();
  std::string content_;
  node::SnapshotOffer offer_;
};

// The offer says where the file is and nothing else: as the group fills it in.
TEST_F(SnapshotTest, K1_SnapshotsArriveWhole) {
  EXPECT_TRUE(Send(peer_).ok());
  ASSERT_EQ(other_host_.installed.size(), 1u);
  EXPECT_EQ(*env::ReadWholeFile(env::RealFiles(), other_host_.installed[0], content_.size()), content_);
  EXPECT_EQ(offer_.progress->bytes, content_.size());
  EXPECT_EQ(offer_.progress->total, content_.size());
}

TEST_F(SnapshotTest, K1_F29_FailedTriesLeaveNoFile) {
  other_host_.install_answer = absl::DataLossError("not whole");
  const absl::Status refused = Send(peer_);
  EXPECT_FALSE(refused.ok());
  EXPECT_FALSE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(Left(), testing::IsEmpty());
  other_host_.install_answer = absl::UnavailableError("not now");
  EXPECT_TRUE(absl::IsUnavailable(Send(peer_)));
  EXPECT_THAT(Left(), testing::IsEmpty());
  Write("");
  EXPECT_FALSE(Send(peer_).ok());
  EXPECT_EQ(other_host_.installed.size(), 2u);
}

TEST_F(SnapshotTest, K2_RefusedBeforeTheTransfer) {
  other_host_.wants_snapshot = absl::AlreadyExistsError("here");
  EXPECT_TRUE(Send(peer_).ok()) << "it has what it needs";
  other_host_.wants_snapshot = absl::UnavailableError("installs another one");
  EXPECT_TRUE(absl::IsUnavailable(Send(peer_)));
  other_host_.wants_snapshot = absl::FailedPreconditionError("an old leader");
  EXPECT_FALSE(Send(peer_).ok());
  EXPECT_EQ(other_host_.snapshots_asked, 3);
  EXPECT_TRUE(other_host_.installed.empty());
  EXPECT_FALSE(*env::RealFiles().Exists(other_host_.snapshots)) << "nothing was written";
}

// A Java server's files, and ours to a server that is none of ours.
TEST_F(SnapshotTest, K1_OursAndForeignFormatsDoNotMeet) {
  offer_.foreign_members = true;
  EXPECT_TRUE(Send(peer_).ok()) << "it says hello";
  raft::Peer wrong = peer_;
  wrong.id = {"n7"};
  EXPECT_TRUE(absl::IsFailedPrecondition(Send(wrong)));
  // A server with Ratis' service and not ours, as a Java server is.
  ::sluice::ratis::grpc::RaftServerProtocolService::Service foreign;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&foreign);
  const std::unique_ptr<grpc::Server> java = builder.BuildAndStart();
  const absl::Status refused = Send({.id = {"j0"}, .address = fmt::format("127.0.0.1:{}", port)});
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(refused.ToString(), testing::HasSubstr("no sluice server"));
  java->Shutdown();
  offer_.foreign_members = false;
  other_host_.installed.clear();
  Write(std::string(2'000'000, 'j'));
  EXPECT_FALSE(Send(peer_).ok());
  EXPECT_TRUE(other_host_.installed.empty());
  EXPECT_EQ(other_host_.snapshots_asked, 1) << "the host is not even asked";
}

// Calls that fail at once: nobody listens, or the call is cancelled when it begins. Every reactor of the edge is
// begun here; the sanitizers see what one of them uses after it is gone.
TEST_F(SnapshotTest, K30_CallsThatFailAtOnceEndOnce) {
  const raft::Peer nobody{.id = {"n8"}, .address = "127.0.0.1:1"};
  constexpr int kTries = 200;
  const node::FetchWanted wanted{.group = kGroup, .upload = {kClient, CallId{1}}, .length = 10};
  int ended = 0;  // guarded by host_.mutex
  const auto end = [&](const auto&) {
    std::lock_guard lock(host_.mutex);
    ++ended;
    host_.changed.notify_all();
  };
  for (int i = 0; i < kTries; ++i) {
    const raft::Peer& to = i % 2 == 0 ? nobody : peer_;
    server_->peers().SendSnapshot(offer_, to, &server_->lane(0), end);
    server_->peers().Send(
        kGroup, nobody,
        raft::AppendRequest{.call = 1, .term = Term{1}, .previous = {Term{0}, kNoIndex}, .commit = kNoIndex});
    server_->bytes().Fetch(nobody, wanted, 0, 10, &server_->lane(0), end);
    server_->bytes().Have(nobody, kGroup, {kClient, CallId{1}}, &server_->lane(0), end);
  }
  server_->Stop(std::chrono::milliseconds(100));
  EXPECT_TRUE(host_.Await([&] { return ended == 3 * kTries; })) << ended;
}

TEST_F(TwoServersTest, D03_PeerServiceGoesThereAndBack) {
  const UploadId upload{kClient, CallId{33}};
  std::vector<std::string> seen;
  auto note = [&](std::string text) {
    std::lock_guard lock(host_.mutex);
    seen.push_back(std::move(text));
    host_.changed.notify_all();
  };
  env::Executor* lane = &server_->lane(1);
  node::SealedUpload sealed{.upload = upload,
                            .header = {.name = "x"},
                            .sealed = {.length = 9, .checksum = 4},
                            .holders = {{"n0"}, {"n1"}}};
  server_->bytes().Have(peer_, kGroup, upload, lane, [&](absl::StatusOr<node::HaveReply> r) {
    note(fmt::format("have {}{}", r->sealed.length, r->entered ? ", entered" : ""));
  });
  ASSERT_TRUE(host_.Await([&] { return seen.size() == 1; }));
  server_->bytes().TellSealed(peer_, kGroup, sealed, lane, [&](absl::Status s) { note(s.ToString()); });
  ASSERT_TRUE(host_.Await([&] { return seen.size() == 2; }));
  server_->bytes().OrderFetch(peer_, kGroup, sealed, lane, [&](absl::StatusOr<node::HaveReply> r) {
    note(std::string(Message(r.status())));
  });
  ASSERT_TRUE(host_.Await([&] { return seen.size() == 3; }));
  server_->bytes().Publish(peer_, {.group = kGroup, .upload = sealed, .inline_bytes = Bytes::Copy("abc")},
                           lane, [&](node::ClientReply r) { note(r.message.ToString()); });
  ASSERT_TRUE(host_.Await([&] { return seen.size() == 4; }));
  server_->bytes().Remove(peer_, {.group = kGroup, .name = "x", .client = kClient, .call = CallId{1}}, lane,
                          [&](node::ClientReply r) { note(r.leader->id.value); });
  ASSERT_TRUE(host_.Await([&] { return seen.size() == 5; }));
  EXPECT_EQ(seen, std::vector<std::string>({"have 33, entered", "OK", "no such upload", "abc", "n7"}));
  ASSERT_EQ(other_host_.sealed.size(), 1u);
  EXPECT_EQ(other_host_.sealed[0].holders.size(), 2u);
  EXPECT_EQ(other_host_.sealed[0].sealed.length, 9u);
  // That a stream can never be entered is told with its code (K6).
  other_host_.sealed_answer = absl::FailedPreconditionError("its id was used");
  std::optional<absl::StatusCode> refused;
  server_->bytes().TellSealed(peer_, kGroup, sealed, lane, [&](absl::Status s) {
    std::lock_guard lock(host_.mutex);
    refused = s.code();
    host_.changed.notify_all();
  });
  ASSERT_TRUE(host_.Await([&] { return refused.has_value(); }));
  EXPECT_EQ(refused, absl::StatusCode::kFailedPrecondition);
}

TEST_F(TwoServersTest, D03_K9_WhatIsKnownOfLostEntriesGoesThereAndBack) {
  raft::RecallRequest asked;
  other_host_.on_recall = [&](const PeerId& from, const raft::RecallRequest& request) {
    EXPECT_EQ(from, PeerId{"n0"});
    asked = request;
    raft::RecallReply reply{.term = Term{9},
                            .voting = true,
                            .hears_leader = true,
                            .base = Index{3},
                            .entries = {},
                            .previous_term = Term{4},
                            .end = raft::kEndUnknown};
    reply.entries.push_back({Term{5}, true, raft::EntryKind::kMetadata, Bytes::Copy("whole")});
    reply.entries.push_back({Term{6}, false, raft::EntryKind::kCommand, Bytes()});
    return reply;
  };
  std::optional<absl::StatusOr<raft::RecallReply>> told;
  const auto ask = [&] {
    told.reset();
    server_->bytes().Recall(peer_, kGroup, {Index{2}, Term{8}}, &server_->lane(0),
                            [&](absl::StatusOr<raft::RecallReply> reply) {
                              std::lock_guard lock(host_.mutex);
                              told = std::move(reply);
                              host_.changed.notify_all();
                            });
    ASSERT_TRUE(host_.Await([&] { return told.has_value(); }));
  };
  ask();
  ASSERT_TRUE(told->ok()) << told->status();
  EXPECT_EQ(asked.from, Index{2});
  EXPECT_EQ(asked.fence, Term{8});
  const raft::RecallReply& reply = **told;
  EXPECT_EQ(reply.term, Term{9});
  EXPECT_TRUE(reply.voting && reply.hears_leader);
  EXPECT_EQ(reply.base, Index{3});
  EXPECT_EQ(reply.previous_term, Term{4});
  EXPECT_EQ(reply.end, raft::kEndUnknown);
  ASSERT_EQ(reply.entries.size(), 2u);
  EXPECT_EQ(reply.entries[0].term, Term{5});
  EXPECT_EQ(reply.entries[0].kind, raft::EntryKind::kMetadata);
  EXPECT_TRUE(reply.entries[0].intact && reply.entries[0].payload == "whole");
  EXPECT_EQ(reply.entries[1].term, Term{6});
  EXPECT_FALSE(reply.entries[1].intact);
  // What cannot be right is an error, not an answer.
  other_host_.on_recall = [&](const PeerId&, const raft::RecallRequest&) {
    raft::RecallReply wrong;
    wrong.term = Term{uint64_t{1} << 63};
    return wrong;
  };
  ask();
  EXPECT_TRUE(absl::IsInvalidArgument(told->status())) << told->status();
}

TEST_F(TwoServersTest, D03_D20_QueryOfAWriteIsAnsweredWithoutAskingOthers) {
  std::vector<absl::StatusOr<node::WriteStatus>> seen;
  const auto query = [&](const GroupId& group, const std::string& name) {
    const size_t before = seen.size();
    server_->bytes().QueryWrite(peer_, group, {name}, &server_->lane(0),
                                [&](absl::StatusOr<node::WriteStatus> told) {
                                  std::lock_guard lock(host_.mutex);
                                  seen.push_back(std::move(told));
                                  host_.changed.notify_all();
                                });
    EXPECT_TRUE(host_.Await([&] { return seen.size() == before + 1; }));
    return seen.back();
  };
  const auto open = query(kGroup, "s4096");
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_EQ(open->committed, 4096u);
  EXPECT_FALSE(open->complete);
  const auto stored = query(kGroup, "c7");
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->committed, 7u);
  EXPECT_TRUE(stored->complete);
  EXPECT_EQ(query(kGroup, "unknown").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(query(kGroup, "broken").status().code(), absl::StatusCode::kDataLoss);
  // What cannot be right: no name, a name with a NUL, a group that is not there, a size beyond an int64.
  EXPECT_EQ(query(kGroup, "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(query(kGroup, std::string("s\0", 2)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(query(GroupId{{0x77}}, "s1").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(query(kGroup, "s9223372036854775808").status().code(), absl::StatusCode::kInvalidArgument);
  peer_.id = {"n9"};
  EXPECT_EQ(query(kGroup, "s1").status().code(), absl::StatusCode::kFailedPrecondition);
}

// Everything that one server may say to another, once.
class MetTest : public TwoServersTest {
 protected:
  MetTest() {
    other_host_.on_step = [this](const GroupId& group, const PeerId& from, raft::Message message) {
      ++stepped_;
      const raft::Peer to{.id = from};
      if (auto* append = std::get_if<raft::AppendRequest>(&message)) {
        other_->peers().Send(group, to, raft::AppendReply{.call = append->call, .term = append->term});
      } else if (auto* vote = std::get_if<raft::VoteRequest>(&message)) {
        other_->peers().Send(group, to,
                             raft::VoteReply{.call = vote->call, .term = Term{6}, .granted = true});
      } else if (auto* read = std::get_if<raft::ReadIndexRequest>(&message)) {
        other_->peers().Send(group, to, raft::ReadIndexReply{.call = read->call, .ok = true});
      } else if (auto* now = std::get_if<raft::TimeoutNow>(&message)) {
        other_->peers().Send(group, to, raft::TimeoutNowReply{.call = now->call, .accepted = true});
      }
    };
  }
  void SayEverything() {
    raft::AppendRequest append{
        .call = 41, .term = Term{2}, .previous = {Term{0}, kNoIndex}, .entries = {}, .commit = kNoIndex};
    server_->peers().Send(kGroup, peer_, append);  // a heartbeat
    append.entries.push_back(
        {{Term{2}, Index{0}}, raft::EntryKind::kMetadata, Bytes::Copy(std::string(8, '\0'))});
    server_->peers().Send(kGroup, peer_, append);
    server_->peers().Send(kGroup, peer_,
                          raft::VoteRequest{.call = 1, .term = Term{6}, .last = {Term{0}, kNoIndex}});
    server_->peers().Send(kGroup, peer_, raft::ReadIndexRequest{.call = 2});
    server_->peers().Send(kGroup, peer_, raft::TimeoutNow{.call = 3, .leader_last = {Term{6}, Index{0}}});
    std::promise<absl::Status> told;
    server_->bytes().TellSealed(peer_, kGroup, {.upload = {kClient, CallId{1}}}, &server_->lane(0),
                                [&](absl::Status status) { told.set_value(std::move(status)); });
    sealed_ = told.get_future().get();
  }

  std::atomic<int> stepped_ = 0;
  absl::Status sealed_;
};

TEST_F(MetTest, K7_F56_AServerOfAnotherClusterIsRefusedBeforeItsMessagesAreStepped) {
  const ClusterId ours{{1}}, theirs{{2}};
  other_host_.cluster_id.Learn(theirs);
  for (const bool says_its_own : {false, true}) {  // or none: it is about to found one
    if (says_its_own) host_.cluster_id.Learn(ours);
    {
      std::lock_guard lock(host_.mutex);
      host_.unreachable.clear();
    }
    SayEverything();
    ASSERT_TRUE(host_.Await([&] { return host_.unreachable.contains(peer_.id); }));
    EXPECT_TRUE(absl::IsFailedPrecondition(sealed_)) << sealed_;
    EXPECT_THAT(std::string(Message(sealed_)), testing::HasSubstr(theirs.ToString()));
    EXPECT_THAT(std::string(Message(sealed_)),
                testing::HasSubstr(says_its_own ? ours.ToString() : "of no cluster"));
  }
  EXPECT_EQ(stepped_, 0);
  EXPECT_TRUE(replies_.empty());
}

TEST_F(MetTest, K7_ServersOfOneClusterMeetAndSoDoesOneThatKnowsNoneYet) {
  const ClusterId cluster{{1}};
  host_.cluster_id.Said(cluster);  // its log has it, nobody knows whether for good
  SayEverything();
  ASSERT_TRUE(AwaitReplies(5));
  EXPECT_TRUE(sealed_.ok()) << sealed_;
  host_.cluster_id.Learn(cluster);
  other_host_.cluster_id.Learn(cluster);
  SayEverything();
  EXPECT_TRUE(sealed_.ok()) << sealed_;
  EXPECT_TRUE(AwaitReplies(10));
}

// A stream that was opened while nobody knew a cluster is not believed for ever.
TEST_F(MetTest, K7_AnOpenStreamEndsWhenItsClusterTurnsOutToBeAnother) {
  const raft::AppendRequest heartbeat{
      .call = 41, .term = Term{2}, .previous = {Term{0}, kNoIndex}, .entries = {}, .commit = kNoIndex};
  server_->peers().Send(kGroup, peer_, heartbeat);
  ASSERT_TRUE(AwaitReplies(1));
  other_host_.cluster_id.Learn(ClusterId{{2}});
  server_->peers().Send(kGroup, peer_, heartbeat);
  ASSERT_TRUE(host_.Await([&] { return host_.unreachable.contains(peer_.id); }));
  EXPECT_EQ(stepped_, 1);
}

TEST_F(MetTest, K7_F56_TheWrongServerOfTheRightClusterIsRefusedToo) {
  host_.cluster_id.Learn(ClusterId{{1}});
  other_host_.cluster_id.Learn(ClusterId{{1}});
  peer_.id = {"n9"};
  SayEverything();
  ASSERT_TRUE(host_.Await([&] { return host_.unreachable.contains(peer_.id); }));
  EXPECT_EQ(stepped_, 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(sealed_)) << sealed_;
}

// Java servers know of no cluster: in a group that may have some, group and id stand for it.
TEST_F(MetTest, K7_AJavaMemberNeedsNoCluster) {
  other_host_.MakeRatis(kGroup);
  other_host_.cluster_id.Learn(ClusterId{{2}});
  SayEverything();
  EXPECT_TRUE(AwaitReplies(5));
  host_.cluster_id.Learn(ClusterId{{1}});  // but a server of sluice that says another one is a stranger
  stepped_ = 0;
  SayEverything();
  EXPECT_TRUE(absl::IsFailedPrecondition(sealed_)) << sealed_;
  EXPECT_EQ(stepped_, 0);
}

TEST_F(ServerTest, K20_AClientOfAnotherClusterOrOfAnotherServerIsRefused) {
  host_.cluster_id.Learn(ClusterId{{1}});
  auto stub = ::sluice::admin::Admin::NewStub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", server_->port()), grpc::InsecureChannelCredentials()));
  const auto stat = [&](std::string_view cluster, const std::string& target) {
    grpc::ClientContext context;
    if (!cluster.empty()) context.AddMetadata(wire::kClusterKey, Raw(cluster));
    if (!target.empty()) context.AddMetadata(wire::kTargetKey, target);
    ::sluice::admin::StatRequest request;
    request.set_group(Raw(kGroup.AsBytes()));
    request.set_name("name");
    ::sluice::admin::Blob blob;
    return stub->Stat(&context, request, &blob).error_code();
  };
  const auto refused = grpc::StatusCode::FAILED_PRECONDITION;
  EXPECT_EQ(stat(ClusterId{{2}}.AsBytes(), ""), refused);
  EXPECT_EQ(stat("", "n9"), refused);
  EXPECT_EQ(stat("short", ""), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(stat(ClusterId{{1}}.AsBytes(), "n0"), refused);
  EXPECT_NE(stat("", ""), refused);
  auto clients = ::sluice::ratis::grpc::RaftClientProtocolService::NewStub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", server_->port()), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.AddMetadata(wire::kClusterKey, Raw(ClusterId{{2}}.AsBytes()));
  const auto stream = clients->unordered(&context);
  EXPECT_EQ(stream->Finish().error_code(), refused);
}

TEST_F(TwoServersTest, D03_AnotherServerAtTheAddressIsRefused) {
  peer_.id = {"n9"};
  std::vector<absl::Status> seen;
  server_->bytes().Have(peer_, kGroup, {kClient, CallId{1}}, &server_->lane(0),
                        [&](absl::StatusOr<node::HaveReply> r) {
                          std::lock_guard lock(host_.mutex);
                          seen.push_back(r.status());
                          host_.changed.notify_all();
                        });
  ASSERT_TRUE(host_.Await([&] { return seen.size() == 1; }));
  EXPECT_TRUE(absl::IsFailedPrecondition(seen[0])) << seen[0];
  auto stub = ::sluice::peer::Peer::NewStub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", other_->port()), grpc::InsecureChannelCredentials()));
  ::sluice::peer::HelloRequest hello;
  hello.set_server_id("n0");
  hello.set_format_version(1);
  hello.set_target_id("n1");
  ::sluice::peer::HelloReply answer;
  grpc::ClientContext first;
  ASSERT_TRUE(stub->Hello(&first, hello, &answer).ok());
  EXPECT_TRUE(answer.accepted()) << answer.message();
  EXPECT_EQ(answer.groups_size(), 1);
  hello.set_target_id("n9");
  grpc::ClientContext second;
  ASSERT_TRUE(stub->Hello(&second, hello, &answer).ok());
  EXPECT_FALSE(answer.accepted());
}

// gRPC's own listener gives up for ever when an accept fails.
TEST_F(ServerTest, K17_F14_AMomentWithoutDescriptorsDoesNotEndThePort) {
  // Made before there are none left.
  asio::io_context context;
  asio::ip::tcp::socket early(context);
  early.open(asio::ip::tcp::v4());
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit small{500, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
  std::vector<int> hoard;
  for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) hoard.push_back(fd);
  EXPECT_EQ(errno, EMFILE);
  std::error_code error;
  early.connect({asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(server_->port())}, error);
  EXPECT_FALSE(error) << error.message();  // the kernel takes it; the server cannot
  // One free descriptor is of the reserve: what it accepts with it is refused, and that shows that it tried.
  close(hoard.back());
  hoard.pop_back();
  char byte;
  early.read_some(asio::buffer(&byte, 1), error);
  EXPECT_TRUE(error) << "closed by the server";
  for (const int fd : hoard) close(fd);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  pb::RaftClientReplyProto reply;
  context_.set_wait_for_ready(true);
  const grpc::Status status = Once(Write(5, "a"), &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace sluice::edge
