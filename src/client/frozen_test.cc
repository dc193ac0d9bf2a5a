// A server that is there and says nothing, beside one that serves (K22), and one that tells a wrong address (K20).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "client/server_for_test.h"
#include "client/stream_connection.h"
#include "sluice/blob.h"
#include "sluice/client.h"

namespace sluice::client {
namespace {

using testing::HasSubstr;

TEST(Frozen, K22_EveryCallGoesOnAtTheNextServer) {
  const SilentPort frozen;
  const LiveServer live;
  const Bytes large = Bytes::Take(std::string(1 << 20, 'x'));
  const auto each_time_anew = [&] {  // the frozen one comes first again
    return *BlobClient::Create({.servers = {frozen.address(), live.address()}});
  };
  for (const BlobVia via : {BlobVia::kDataStream, BlobVia::kByteStream}) {
    PutOptions options;
    options.via = via;
    EXPECT_TRUE(each_time_anew()->PutBytes("small", Bytes::Copy("x"), options).ok());
    const auto put = each_time_anew()->PutBytes("large", large, options);
    EXPECT_TRUE(put.ok()) << put.status();
    const auto got = each_time_anew()->GetBytes("large", 2 << 20);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->size(), large.size());
  }
  EXPECT_TRUE(each_time_anew()->Stat("large").ok());
  EXPECT_EQ(each_time_anew()->List("", "", 0)->size(), 2u);
  EXPECT_TRUE(each_time_anew()->Remove("large").ok());
}

TEST(Frozen, K22_AStreamIsLeftWhenItsServerIsNotAlive) {
  const SilentPort frozen;
  int asked = 0;
  StreamConnectionOptions options;
  options.alive = [&asked] { return ++asked < 3; };  // slow at first
  const auto stream = StreamConnection::Open(frozen.address(), options);
  ASSERT_TRUE(stream.ok()) << stream.status();
  ASSERT_TRUE((*stream)->Send({.stream = CallId{1}}, Bytes::Copy("header"), nullptr).ok());
  const absl::Status left = (*stream)->Drain();
  EXPECT_TRUE(absl::IsUnavailable(left)) << left;
  EXPECT_THAT(std::string(Message(left)), HasSubstr("answers nothing"));
  EXPECT_EQ(asked, 3);
}

TEST(Frozen, K22_AStreamWhoseServerIsAliveGetsTheWholePatience) {
  const SilentPort slow;
  StreamConnectionOptions options;
  options.silence = std::chrono::milliseconds(1500);
  options.alive = [] { return true; };
  const auto stream = StreamConnection::Open(slow.address(), options);
  ASSERT_TRUE(stream.ok()) << stream.status();
  ASSERT_TRUE((*stream)->Send({.stream = CallId{1}}, Bytes::Copy("header"), nullptr).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded((*stream)->Drain()));
}

// What another server's address leads to is another cluster, whose server has the same id.
TEST(WrongAddress, K20_NoByteGoesToAServerThatIsNotTheOneThatWasMeant) {
  const LiveServer stranger;
  const LiveServer named({}, /*advertise=*/stranger.address());
  const auto blobs = *BlobClient::Create({.servers = {named.address()}, .silence_ms = 1'000});
  // Its cluster is known once its group has a leader.
  while (!blobs->PutBytes("small", Bytes::Copy("x")).ok()) {
  }
  const auto put = blobs->PutBytes("large", Bytes::Take(std::string(1 << 20, 'x')));
  EXPECT_FALSE(put.ok()) << "it went into the stranger's store";
  const auto theirs = *BlobClient::Create({.servers = {stranger.address()}});
  EXPECT_TRUE(theirs->List("", "", 0)->empty());
}

TEST(WrongAddress, K20_NeitherDoesAStreamThatAProgramWritesItself) {
  const LiveServer stranger;
  const LiveServer named({}, /*advertise=*/stranger.address());
  const auto blobs = *BlobClient::Create({.servers = {named.address()}, .silence_ms = 1'000});
  while (!blobs->PutBytes("small", Bytes::Copy("x")).ok()) {
  }
  const auto raft = *RaftClient::Create({.servers = {named.address()}});
  const auto stream = raft->DataStream().Stream(EncodeBlobHeader("large", 1 << 20));
  ASSERT_TRUE(stream.ok()) << stream.status();
  const auto written = (*stream)->WriteAsync(Bytes::Take(std::string(1 << 20, 'x')));
  const absl::Status opened = (*stream)->HeaderFuture().Get().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(opened)) << opened << ": it went into the stranger's store";
  EXPECT_FALSE(written.Get().ok());
}

}  // namespace
}  // namespace sluice::client
