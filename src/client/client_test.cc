// The public headers against one whole server.
#include "sluice/client.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "client/server_for_test.h"
#include "sluice/blob.h"
#include "sluice/bytestream/bytestream.grpc.pb.h"
#include "sluice/state_machine.h"

namespace sluice::client {
namespace {

const Bytes kContent = Bytes::Take(std::string(200'000, 'c'));

class ClientTest : public testing::Test {
 protected:
  std::unique_ptr<BlobClient> Blobs() { return *BlobClient::Create({.servers = {server_.address()}}); }
  std::unique_ptr<RaftClient> Raft(GroupId group = kDefaultGroup) {
    return *RaftClient::Create({.servers = {server_.address()}, .group = group});
  }
  static constexpr GroupId kCounter{{1}};
  LiveServer server_{{{.id = kCounter, .machine = "counter", .factory = {}}}};
};

// A refusal is not worth another attempt, and says what it is.
TEST_F(ClientTest, AFinalRefusalOfAStreamEndsThePutAtOnce) {
  const auto blobs = Blobs();
  int retries = 0;
  PutOptions options;
  options.on_retry = [&](const absl::Status& why) {
    ++retries;
    ADD_FAILURE() << why;
  };
  ASSERT_TRUE(blobs->PutBytes("a", kContent, options).ok());
  const Bytes other = Bytes::Take(std::string(200'000, 'd'));
  EXPECT_TRUE(absl::IsAlreadyExists(blobs->PutBytes("a", other, options).status()));
  options.expected_digest = Sha256{};
  for (const BlobVia via : {BlobVia::kDataStream, BlobVia::kByteStream}) {
    options.via = via;
    for (const Bytes& content : {kContent, Bytes::Copy("abc")}) {
      const absl::Status wrong = blobs->PutBytes("b", content, options).status();
      EXPECT_TRUE(absl::IsInvalidArgument(wrong) || absl::IsDataLoss(wrong)) << wrong;
      EXPECT_TRUE(absl::IsNotFound(blobs->Stat("b").status()));
    }
  }
  EXPECT_EQ(retries, 0);
}

// Never a silent prefix: what has grown or says that it is empty is read on before the blob can appear.
TEST_F(ClientTest, AFileThatGoesOnAfterItsSizeIsNotStored) {
  const TempFolder folder;
  const auto blobs = Blobs();
  for (const BlobVia via : {BlobVia::kDataStream, BlobVia::kByteStream}) {
    PutOptions options;
    options.via = via;
    const absl::Status no_size = blobs->PutFile("cpus", "/proc/cpuinfo", options).status();
    EXPECT_TRUE(absl::IsDataLoss(no_size)) << no_size;
    EXPECT_THAT(std::string(no_size.message()), testing::HasSubstr("/proc/cpuinfo has "));
    EXPECT_THAT(std::string(no_size.message()), testing::HasSubstr("its size was 0"));
    EXPECT_TRUE(absl::IsNotFound(blobs->Stat("cpus").status()));

    const std::string path = folder / "grows";
    std::ofstream(path) << std::string(3u << 20, 'g');
    bool grown = false;
    options.on_progress = [&](uint64_t) {
      if (!std::exchange(grown, true)) std::ofstream(path, std::ios::app) << "more";
    };
    const absl::Status longer = blobs->PutFile("grows", path, options).status();
    EXPECT_TRUE(absl::IsDataLoss(longer)) << longer;
    EXPECT_THAT(std::string(longer.message()),
                testing::HasSubstr("grows has 3145732 bytes, and its size was 3145728"));
    EXPECT_TRUE(absl::IsNotFound(blobs->Stat("grows").status()));

    const absl::Status shorter = [&] {
      grown = false;
      options.on_progress = [&](uint64_t) { std::filesystem::resize_file(path, 1000); };
      return blobs->PutFile("shrinks", path, options).status();
    }();
    EXPECT_TRUE(absl::IsDataLoss(shorter)) << shorter;
    EXPECT_TRUE(absl::IsNotFound(blobs->Stat("shrinks").status()));
  }
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& other : {pipe, folder.path().string(), std::string("/dev/null")}) {
    const absl::Status refused = blobs->PutFile("other", other).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("is no regular file"));
  }
}

// What somebody else began under the name, and left, is nothing to go on with.
TEST_F(ClientTest, K8_D20_APutDoesNotGoOnWithTheUploadOfAnother) {
  {
    const auto stub = bytestream::ByteStream::NewStub(
        grpc::CreateChannel(server_.address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext write, query;
    bytestream::WriteResponse response;
    const auto call = stub->Write(&write, &response);
    bytestream::WriteRequest request;
    request.set_resource_name("x");
    request.set_data(std::string(300'000, 'a'));
    ASSERT_TRUE(call->Write(request));
    call->WritesDone();
    (void)call->Finish();
    bytestream::QueryWriteStatusRequest where;
    where.set_resource_name("x");
    bytestream::QueryWriteStatusResponse status;
    ASSERT_TRUE(stub->QueryWriteStatus(&query, where, &status).ok());
    ASSERT_EQ(status.committed_size(), 300'000);
  }
  server_.Stop();
  const Bytes content = Bytes::Take(std::string(600'000, 'b'));
  PutOptions options;
  options.via = BlobVia::kByteStream;
  int retries = 0;
  options.on_retry = [&](const absl::Status&) {
    if (++retries == 1) server_.Start();
  };
  const auto put = Blobs()->PutBytes("x", content, options);
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_GE(retries, 1);
  EXPECT_EQ(*Blobs()->GetBytes("x"), content);
}

// The server goes away between CLOSE and FORWARD, and comes back: the bytes are there already.
TEST_F(ClientTest, AfterCloseOnlyTheForwardIsRepeated) {
  int steps = 0, retries = 0;
  PutOptions options;
  options.on_progress = [&](uint64_t) {
    if (++steps == 2) server_.Stop();  // the first is after the only packet, the second after CLOSE
  };
  options.on_retry = [&](const absl::Status& why) {
    EXPECT_TRUE(absl::IsUnavailable(why)) << why;
    if (++retries == 1) server_.Start();
  };
  const auto put = Blobs()->PutBytes("kept", kContent, options);
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_EQ(put->length, kContent.size());
  EXPECT_EQ(steps, 2) << "uploaded again";
  EXPECT_GE(retries, 1);
  EXPECT_EQ(*Blobs()->GetBytes("kept"), kContent);
}

TEST_F(ClientTest, AStreamRefusesInOneWayForAllItsCalls) {
  const auto raft = Raft();
  auto stream = raft->DataStream().Stream(EncodeBlobHeader("short", 0));
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_TRUE((*stream)->HeaderFuture().Get().ok());
  const auto late = (*stream)->WriteAsync(kContent);
  const auto closed = (*stream)->CloseAsync();
  EXPECT_FALSE(closed.Get().ok()) << "longer than its header says";
  EXPECT_EQ((*stream)->RaftClientReplyFuture().Get().status(), closed.Get().status());
  EXPECT_TRUE(absl::IsFailedPrecondition((*stream)->CloseAsync().Get().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition((*stream)->WriteAsync(kContent).Get().status()));
}

TEST_F(ClientTest, AStreamThatIsDroppedAnswersItsFutures) {
  const auto raft = Raft();
  auto stream = raft->DataStream().Stream(EncodeBlobHeader("dropped", kContent.size()));
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_TRUE((*stream)->WriteAsync(kContent).Get().ok());
  const auto reply = (*stream)->RaftClientReplyFuture();
  stream->reset();
  EXPECT_TRUE(absl::IsCancelled(reply.Get().status()));
  EXPECT_TRUE(absl::IsNotFound(Blobs()->Stat("dropped").status()));
}

TEST_F(ClientTest, WritesOfEverySizeArriveInOrder) {
  const auto raft = Raft();
  Bytes whole;
  auto stream = raft->DataStream().Stream(EncodeBlobHeader("sizes", 2'500'000 + 1 + 70'000));
  ASSERT_TRUE(stream.ok()) << stream.status();
  for (const size_t size : {2'500'000u, 1u, 0u, 70'000u}) {
    const Bytes part = Bytes::Take(std::string(size, static_cast<char>('a' + size % 26)));
    whole.Append(part);
    const auto reply = (*stream)->WriteAsync(part, {.sync = size == 1}).Get();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->bytes_written, size);
  }
  EXPECT_EQ((*stream)->taken_bytes(), whole.size());
  const auto result = (*stream)->WritableChannel().Close();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(DecodeBlobReply(result->message)->length, whole.size());
  EXPECT_EQ(*Blobs()->GetBytes("sizes"), whole);
}

TEST_F(ClientTest, UnknownGroupsAndServersAreNamed) {
  EXPECT_TRUE(absl::IsNotFound(Raft(GroupId{{9}})->Blocking().Send(Bytes::Copy("x")).status()));
  const auto raft = Raft();
  EXPECT_TRUE(absl::IsNotFound(raft->Admin().GroupInfo(GroupId{{9}}).status()));
  RoutingTable route;
  route.primary = {"n7"};
  EXPECT_TRUE(absl::IsNotFound(raft->DataStream().Stream("", route).status()));
  const ClosedPort nobody;
  EXPECT_TRUE(absl::IsUnavailable(raft->Admin().GroupList(nobody.address()).status()));
}

TEST_F(ClientTest, AdminTellsOfGroups) {
  const auto raft = Raft();
  const auto groups = raft->Admin().GroupList();
  ASSERT_TRUE(groups.ok()) << groups.status();
  EXPECT_THAT(*groups, testing::UnorderedElementsAre(kDefaultGroup, kCounter));
  ASSERT_TRUE(Raft(kCounter)->Blocking().Send(Bytes::Copy("INCREMENT")).ok());
  const auto info = raft->Admin().GroupInfo(kCounter, server_.address());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->id, kCounter);
  EXPECT_EQ(info->role, RaftGroupInfo::Role::kLeader);
  EXPECT_EQ(info->leader, PeerId{"n0"});
  ASSERT_EQ(info->members.size(), 1u);
  EXPECT_EQ(info->members[0].address, server_.address());
  EXPECT_FALSE(info->members[0].listener);
  EXPECT_TRUE(info->committed.valid());
  EXPECT_TRUE(info->storage_healthy);
}

TEST_F(ClientTest, MessageStreamsAreOneWriteEach) {
  const auto raft = Raft(kCounter);
  std::vector<Future<RaftReply>> replies;
  for (const uint64_t part_bytes : {1u, 2u, 9u, 100u}) {
    replies.push_back(raft->MessageStream().StreamAsync(Bytes::Copy("INCREMENT"), part_bytes));
  }
  for (size_t i = 0; i < replies.size(); ++i) {
    const auto reply = replies[i].Get();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->message.ToString().back(), static_cast<char>(i + 1));
  }
  EXPECT_TRUE(
      absl::IsInvalidArgument(raft->MessageStream().StreamAsync(Bytes::Copy("DECREMENT"), 3).Get().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(raft->MessageStream().StreamAsync(Bytes::Copy("x"), 0).Get().status()));
}

TEST(MessageStream, AMessageThatFitsNoEntryIsRefusedBeforeItIsSent) {
  const ClosedPort nobody;
  const auto raft = *RaftClient::Create({.servers = {nobody.address()}});
  const auto reply = raft->MessageStream().StreamAsync(Bytes::Take(std::string((4u << 20) + 1, 'm')));
  ASSERT_TRUE(reply.Ready());
  EXPECT_TRUE(absl::IsInvalidArgument(reply.Get().status())) << reply.Get().status();
}

// The last part still fits into what the client holds in flight; the one before it does not.
TEST(MessageStream, EndsWithTheFirstPartThatFails) {
  const ClosedPort nobody;
  const auto raft = *RaftClient::Create({.servers = {nobody.address()}});
  const Bytes big = Bytes::Take(std::string(4u << 20, 'm'));
  for (int i = 0; i < 15; ++i) {
    EXPECT_FALSE(raft->MessageStream().StreamAsync(big, big.size()).Ready()) << i;
  }
  const auto reply = raft->MessageStream().StreamAsync(big, big.size() - 1);
  ASSERT_TRUE(reply.Ready());
  EXPECT_TRUE(absl::IsResourceExhausted(reply.Get().status())) << reply.Get().status();
}

TEST(Options, ThatCannotBeAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(RaftClient::Create({}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(RaftClient::Create({.servers = {"nowhere"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(RaftClient::Create({.servers = {"a:1"}, .timeout_ms = 0}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(BlobClient::Create({.servers = {}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(BlobClient::Create({.servers = {"a:1"}, .silence_ms = 0}).status()));
  ServerOptions several;
  several.listen = "127.0.0.1:0";
  several.peers = {{"n0", "127.0.0.1:0"}, {"n1", "127.0.0.1:7410"}};
  EXPECT_TRUE(absl::IsInvalidArgument(Server::Start(several).status()));
  several.listen = "127.0.0.1:7400";
  several.data_dir = "/proc/none";  // nothing starts, whatever is taken
  several.peers = {{"n0", "127.0.0.1:7400"}, {"n0", "127.0.0.1:7410"}};
  const absl::Status twice = Server::Start(several).status();
  EXPECT_TRUE(absl::IsInvalidArgument(twice)) << twice;
  EXPECT_THAT(std::string(twice.message()), testing::StartsWith("peers: n0 is there twice"));
}

}  // namespace
}  // namespace sluice::client
