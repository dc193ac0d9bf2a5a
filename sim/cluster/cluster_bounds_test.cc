// Tables of a group that are full answer so, and have room again when something ends.

#include "sim/cluster/fault_fixture_for_test.h"

namespace sluice::sim {
namespace {

class ClusterBounds : public ClusterFault {
 protected:
  node::StreamHeader HeaderOf(size_t server, uint64_t call) {
    node::StreamHeader header;
    header.group = kBlobs;
    header.upload = {ClientId{{3}}, CallId{call}};
    header.blob.name = fmt::format("upload-{}", call);
    header.route.primary = cluster_->id(server);
    header.route.given = true;
    return AsSent(std::move(header));
  }
  // Opens an upload and waits for what is said of it.
  absl::Status Open(size_t server, uint64_t call, std::shared_ptr<node::Relay>* relay) {
    auto opened = std::make_shared<std::optional<absl::Status>>();
    *relay = cluster_->host(server).OpenRelay(HeaderOf(server, call), cluster_->lane(server),
                                              [opened](absl::Status status) { *opened = status; });
    EXPECT_TRUE(cluster_->RunUntil([&] { return opened->has_value(); }, seconds(5)));
    return opened->value_or(absl::UnknownError("not answered"));
  }
};

TEST_F(ClusterBounds, F64_UploadsOfOneGroupAreLimited) {
  ClusterOptions options;
  options.host.group_uploads_max = 2;
  Make(options);
  std::shared_ptr<node::Relay> first, second, third;
  EXPECT_TRUE(Open(1, 1, &first).ok());
  EXPECT_TRUE(Open(1, 2, &second).ok());
  const absl::Status refused = Open(1, 3, &third);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  // By name, too.
  std::optional<absl::Status> by_name;
  cluster_->host(1).OpenWrite(
      kBlobs, HeaderOf(1, 9).blob, 0, cluster_->lane(1),
      [&](absl::StatusOr<std::shared_ptr<node::Relay>> relay) { by_name = relay.status(); });
  ASSERT_TRUE(cluster_->RunUntil([&] { return by_name.has_value(); }, seconds(5)));
  EXPECT_TRUE(absl::IsResourceExhausted(*by_name)) << *by_name;
  first.reset();
  third.reset();
  cluster_->RunFor(milliseconds(10));
  EXPECT_TRUE(Open(1, 4, &third).ok());
}

// Uploads by name whose client goes away leave their stages, and nothing that counts, on any server.
TEST_F(ClusterBounds, K16_F27_UploadsThatWereGivenUpHoldNoPlace) {
  ClusterOptions options;
  options.counter = false;
  options.host.group_uploads_max = 3;
  options.host.blob.uploads_max = 3;
  options.host.upload_idle_ttl_ms = 600'000;
  Make(options);
  const auto write = [&](size_t server, const std::string& name, uint64_t offset) {
    node::BlobHeader header;
    header.name = name;
    auto opened = std::make_shared<std::optional<absl::StatusOr<std::shared_ptr<node::Relay>>>>();
    cluster_->host(server).OpenWrite(
        kBlobs, header, offset, cluster_->lane(server),
        [opened](absl::StatusOr<std::shared_ptr<node::Relay>> relay) { *opened = std::move(relay); });
    EXPECT_TRUE(cluster_->RunUntil([&] { return opened->has_value(); }, seconds(5)));
    return std::move(**opened);
  };
  const auto feed = [&](std::shared_ptr<node::Relay> relay, uint64_t offset) {
    std::optional<absl::Status> fed;
    relay->home()->Post([&] {
      relay->Append(offset, Bytes::Copy(std::string(70'000, 'z')), [&](absl::Status ended) { fed = ended; });
    });
    EXPECT_TRUE(cluster_->RunUntil([&] { return fed.has_value(); }, seconds(5)));
    env::Executor* const home = relay->home();
    home->Post([gone = std::move(relay)]() mutable { gone.reset(); });
    cluster_->RunFor(milliseconds(20));
    return *fed;
  };
  for (int i = 0; i < 30; ++i) {
    auto relay = write(1, fmt::format("given-up-{}", i), 0);
    ASSERT_TRUE(relay.ok()) << i << ": " << relay.status();
    ASSERT_TRUE(feed(*std::move(relay), 0).ok());
  }
  cluster_->RunFor(milliseconds(200));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(cluster_->status(i)->uploads.size(), 30u) << "kept for their time-to-live";
  }
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(clients_->PutNow({.server = i,
                                .name = fmt::format("honest-{}", i),
                                .content = MakeContent(100'000, i),
                                .via = i == 1 ? PutVia::kWrite : PutVia::kChain}),
              Outcome::kAcknowledged)
        << i;
  }
  // Any of them goes on where it was.
  auto relay = write(1, "given-up-7", 70'000);
  ASSERT_TRUE(relay.ok()) << relay.status();
  EXPECT_TRUE(feed(*std::move(relay), 70'000).ok());
  ExpectWhole();
}

TEST_F(ClusterBounds, K16_RefusedUploadsByNameLeaveNothingBehind) {
  ClusterOptions options;
  options.counter = false;
  options.host.group_uploads_max = 2;
  options.host.blob.stages_max = 20;
  Make(options);
  std::shared_ptr<node::Relay> first, second;
  ASSERT_TRUE(Open(1, 1, &first).ok());
  ASSERT_TRUE(Open(1, 2, &second).ok());
  for (int i = 0; i < 100; ++i) {
    std::optional<absl::Status> refused;
    node::BlobHeader header;
    header.name = fmt::format("refused-{}", i);
    cluster_->host(1).OpenWrite(
        kBlobs, header, 0, cluster_->lane(1),
        [&](absl::StatusOr<std::shared_ptr<node::Relay>> relay) { refused = relay.status(); });
    ASSERT_TRUE(cluster_->RunUntil([&] { return refused.has_value(); }, seconds(5)));
    ASSERT_TRUE(absl::IsResourceExhausted(*refused)) << *refused;
  }
  first.reset();
  second.reset();
  cluster_->RunFor(milliseconds(10));
  EXPECT_EQ(clients_->PutNow(
                {.server = 1, .name = "later", .content = MakeContent(100'000, 1), .via = PutVia::kWrite}),
            Outcome::kAcknowledged);
}

TEST_F(ClusterBounds, F64_StreamsThatWaitToBeEnteredAreLimitedAndSoAreTheirRetries) {
  ClusterOptions options;
  options.counter = false;
  options.host.pending_writes_max = 2;
  Make(options);
  const size_t leader = LeaderOf(kBlobs);
  // Nobody answers who holds what, so that they wait.
  for (const PeerId& other : AllBut(leader)) cluster_->network().Cut(other, cluster_->id(leader));
  std::vector<node::ClientReply> replies;
  const auto forward = [&](uint64_t upload) {
    cluster_->host(leader).Submit(ForwardOf({ClientId{{4}}, CallId{upload}}, "a"),
                                  [&](node::ClientReply reply) { replies.push_back(std::move(reply)); });
    cluster_->RunFor(milliseconds(1));
  };
  forward(1);
  forward(2);
  EXPECT_TRUE(replies.empty());
  forward(3);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].code, node::ReplyCode::kResource);
  EXPECT_TRUE(absl::IsResourceExhausted(replies[0].error)) << replies[0].error;
  for (int i = 0; i < 63; ++i) forward(1);
  EXPECT_EQ(replies.size(), 1u) << "a retry joins the one that waits";
  forward(1);
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_EQ(replies[1].code, node::ReplyCode::kResource);
  // Each is answered in the end, and there is room again.
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->RunUntil([&] { return replies.size() == 67; }, seconds(20)));
  ASSERT_TRUE(cluster_->AwaitLeader(kBlobs));
  EXPECT_EQ(
      clients_->PutNow({.server = 0, .name = "b", .content = MakeContent(100'000, 1), .via = PutVia::kChain}),
      Outcome::kAcknowledged);
}

TEST_F(ClusterBounds, F64_StagesThatAreGivenUpLeaveRoomForTheCallsOfClients) {
  ClusterOptions options;
  options.counter = false;
  options.host.pending_writes_max = 4;
  options.host.upload_idle_ttl_ms = 1000;
  Make(options);
  for (uint64_t upload = 1; upload <= 8; ++upload) {
    clients_->PutNow({.server = 1,
                      .name = "left behind",
                      .content = MakeContent(100'000, upload),
                      .via = PutVia::kChain,
                      .vanish_sealed = true,
                      .upload = UploadId{ClientId{{8}}, CallId{upload}}});
  }
  // What this server asks of the leader now has no answer.
  cluster_->network().Isolate(cluster_->id(1));
  cluster_->RunFor(seconds(5));
  node::BlobHeader header;
  header.name = "small";
  std::optional<absl::Status> ended;
  cluster_->host(1).PutInline(kBlobs, header, Bytes::Copy("x"), cluster_->lane(1),
                              [&](absl::StatusOr<node::BlobInfo> info) { ended = info.status(); });
  cluster_->RunFor(milliseconds(1));
  EXPECT_FALSE(ended.has_value()) << *ended;
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->RunUntil([&] { return ended.has_value(); }, seconds(20)));
  EXPECT_TRUE(ended->ok()) << *ended;
}

TEST_F(ClusterBounds, F64_CallsThatWaitForALeaderAreLimitedInNumberAndBytes) {
  ClusterOptions options;
  options.counter = false;
  options.host.pending_writes_max = 3;
  options.host.pending_bytes_max = 10'000;
  Make(options);
  // A server that knows no leader.
  cluster_->network().Isolate(cluster_->id(1));
  cluster_->RunFor(seconds(2));
  std::vector<absl::Status> ends;
  const auto put = [&](size_t bytes) {
    node::BlobHeader header;
    header.name = fmt::format("small-{}", ends.size());
    cluster_->host(1).PutInline(kBlobs, header, Bytes::Copy(std::string(bytes, 'x')), cluster_->lane(1),
                                [&](absl::StatusOr<node::BlobInfo> info) { ends.push_back(info.status()); });
    cluster_->RunFor(milliseconds(1));
  };
  put(6'000);
  put(6'000);
  ASSERT_EQ(ends.size(), 1u) << "too many bytes";
  EXPECT_TRUE(absl::IsResourceExhausted(ends[0])) << ends[0];
  put(100);
  put(100);
  put(100);
  ASSERT_EQ(ends.size(), 2u) << "too many calls";
  EXPECT_TRUE(absl::IsResourceExhausted(ends[1])) << ends[1];
  ASSERT_TRUE(cluster_->RunUntil([&] { return ends.size() == 5; }, seconds(20)));
  cluster_->network().Heal();
  ASSERT_TRUE(cluster_->AwaitConverged());
  put(6'000);
  ASSERT_TRUE(cluster_->RunUntil([&] { return ends.size() == 6; }, seconds(20)));
  EXPECT_TRUE(ends[5].ok()) << ends[5];
}

}  // namespace
}  // namespace sluice::sim
