// The two ends of a snapshot's way without the network between them: what a chunk must be.
#include "edge/ratis/snapshot_chunks.h"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <future>
#include <vector>

#include "base/temp_folder_for_test.h"
#include "edge/fake_host_for_test.h"
#include "node/snapshot_file.h"

namespace sluice::edge::ratis {
namespace {

using Chunk = pb::InstallSnapshotRequestProto;

class SnapshotChunks : public testing::Test {
 protected:
  SnapshotChunks() {
    host_.snapshots = dir_;
    std::string content(node::kSnapshotMagic);
    while (content.size() < 2 * kChunkBytes + 1000)
      content.push_back(static_cast<char>(content.size() * 31 >> 3));
    EXPECT_TRUE(env::WriteFileDurably(files_, dir_ + "/out", Bytes::Copy(content)).ok());
    node::SnapshotOffer offer;
    offer.group = kDefaultGroup;
    offer.leader_term = Term{4};
    offer.at = {Term{3}, Index{1200}};
    offer.path = dir_ + "/out";
    SnapshotSource source({.self = {"n0"}, .to = {"n1"}, .offer = offer}, &files_);
    while (auto chunk = *source.Next()) chunks_.push_back(*std::move(chunk));
  }
  ~SnapshotChunks() override { disk_->Stop(); }

  // What the receiver says of the chunks after `change`: of the last that it took.
  absl::Status Receive(const std::function<void(std::vector<Chunk>&)>& change) {
    std::vector<Chunk> chunks = chunks_;
    change(chunks);
    host_.installed.clear();
    const auto sink =
        std::make_shared<SnapshotSink>(&host_, disk_.get(), &files_, dir_ + "/in", CallerSays{});
    absl::Status said;
    for (Chunk& chunk : chunks) {
      std::promise<bool> answered;
      disk_->Post([&] {
        sink->OnChunk(std::move(chunk), [&](absl::StatusOr<pb::InstallSnapshotReplyProto> reply, bool last) {
          said = reply.status();
          answered.set_value(last);
        });
      });
      if (answered.get_future().get()) break;
    }
    if (!said.ok()) {
      EXPECT_TRUE(host_.installed.empty());
      EXPECT_FALSE(*files_.Exists(dir_ + "/in")) << "what came of it is removed";
    }
    return said;
  }
  static pb::FileChunkProto* Part(Chunk& chunk) {
    return chunk.mutable_snapshot_chunk()->mutable_file_chunks(0);
  }

  const TempFolder folder_;
  const std::string dir_ = folder_.path();
  env::Files& files_ = env::RealFiles();
  FakeHost host_{"n1", {kDefaultGroup}};
  std::unique_ptr<env::Executor> disk_ = env::RealExecutors().NewExecutor("disk");
  std::vector<Chunk> chunks_;
};

TEST_F(SnapshotChunks, F31_AWholeOneIsInstalled) {
  ASSERT_EQ(chunks_.size(), 3u);
  EXPECT_TRUE(Receive([](auto&) {}).ok());
  EXPECT_EQ(host_.installed.size(), 1u);
}

TEST_F(SnapshotChunks, F30_F31_ALostRepeatedOrMovedChunkIsNoticed) {
  EXPECT_FALSE(Receive([](auto& chunks) { chunks.erase(chunks.begin() + 1); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { chunks.insert(chunks.begin(), chunks[0]); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { std::swap(chunks[1], chunks[2]); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { Part(chunks[1])->set_offset(0); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { Part(chunks[1])->set_chunk_index(7); }).ok());
  // One is missing, and those behind it say the right numbers.
  EXPECT_FALSE(Receive([](auto& chunks) {
                 chunks.erase(chunks.begin() + 1);
                 chunks[1].mutable_snapshot_chunk()->set_request_index(1);
                 Part(chunks[1])->set_chunk_index(1);
               }).ok());
}

TEST_F(SnapshotChunks, F31_OtherBytesOrAnotherLengthAreNoticed) {
  EXPECT_FALSE(Receive([](auto& chunks) { (*Part(chunks[1])->mutable_data())[5] ^= 1; }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { Part(chunks[2])->set_file_digest("no digest"); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { Part(chunks[1])->mutable_data()->pop_back(); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) { Part(chunks[2])->mutable_data()->push_back('x'); }).ok());
  EXPECT_FALSE(
      Receive([](auto& chunks) { chunks[0].mutable_snapshot_chunk()->set_total_size(1 << 20); }).ok());
  EXPECT_FALSE(Receive([](auto& chunks) {
                 chunks.pop_back();
                 chunks[1].mutable_snapshot_chunk()->set_done(true);
                 Part(chunks[1])->set_done(true);
               }).ok())
      << "cut short";
}

}  // namespace
}  // namespace sluice::edge::ratis
