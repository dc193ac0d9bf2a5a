#include "raft/types.h"

#include <gtest/gtest.h>

#include "raft/cluster_for_test.h"
#include "raft/entry_table.h"

namespace sluice::raft {
namespace {

Configuration Joint() {
  Configuration configuration;
  configuration.voters = {PeerNamed("n0", 3), PeerNamed("n1")};
  configuration.voters[0].address = "host:1";
  configuration.voters[0].data_stream_address = "host:2";
  configuration.voters[0].client_address = "host:3";
  configuration.voters[0].admin_address = "host:4";
  configuration.old_voters = {PeerNamed("n1"), PeerNamed("n2", 4294967295u)};
  configuration.learners = {PeerNamed("z0")};
  configuration.old_learners = {PeerNamed("n0")};
  return configuration;
}

TEST(Configuration, FindsPeersInAllLists) {
  const Configuration joint = Joint();
  EXPECT_TRUE(joint.joint());
  EXPECT_TRUE(joint.IsVoter(PeerId{"n2"}));
  EXPECT_FALSE(joint.IsVoter(PeerId{"z0"}));
  EXPECT_EQ(joint.Find(PeerId{"n0"})->priority, 3u);
  EXPECT_EQ(joint.Find(PeerId{"nobody"}), nullptr);
  std::string ids;
  for (const Peer& peer : joint.AllPeers()) ids += peer.id.value + " ";
  EXPECT_EQ(ids, "n0 n1 n2 z0 ");
  EXPECT_EQ(ToString(joint), "voters(n0^3 n1) old-voters(n1 n2^4294967295) learners(z0) old-learners(n0)");
}

TEST(Configuration, EncodesAsDocumented) {
  Configuration one;
  one.voters = {PeerNamed("n0", 200)};
  one.voters[0].address = "h:1";
  EXPECT_EQ(ToHex(EncodeConfiguration(one).ToString()), "0101026e3003683a31000000c801000000");
}

TEST(Configuration, DecodeIsTheInverseOfEncodeAndRefusesEveryCutAndEveryExtraByte) {
  for (const Configuration& configuration : {Joint(), Configuration()}) {
    const std::string encoded = EncodeConfiguration(configuration).ToString();
    auto decoded = DecodeConfiguration(Bytes::Copy(encoded));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, configuration);
    for (size_t size = 0; size < encoded.size(); ++size) {
      EXPECT_FALSE(DecodeConfiguration(Bytes::Copy(encoded.substr(0, size))).ok()) << size;
    }
    EXPECT_FALSE(DecodeConfiguration(Bytes::Copy(encoded + '\0')).ok());
  }
}

TEST(Configuration, DecodeRefusesWhatEncodeCannotWrite) {
  auto refused = [](std::string_view hex) { return !DecodeConfiguration(Bytes::Copy(*FromHex(hex))).ok(); };
  EXPECT_FALSE(refused("0100000000"));
  EXPECT_TRUE(refused("0200000000"));                                // version
  EXPECT_TRUE(refused("018000000000"));                              // varint longer than needed
  EXPECT_TRUE(refused("01ffffffffffffffffff01"));                    // 2^64 - 1 peers
  EXPECT_TRUE(refused("01ffffffffffffffffff7f"));                    // more than 64 bits
  EXPECT_TRUE(refused("010100000000000000000000"));                  // empty id
  EXPECT_TRUE(refused("0101ffffffff0f6e30"));                        // text of 4 GiB
  EXPECT_TRUE(refused("0102016100000000000161000000000000000000"));  // twice the same id
  EXPECT_TRUE(refused("0101016100000000808080801000000000"));        // priority of 33 bits
  EXPECT_TRUE(
      refused("0100000001016100000000"
              "00"));  // old learners without old voters
}

TEST(EntryTable, KeepsTermsSizesAndConfigurationsBetweenBaseAndLast) {
  Configuration first;
  first.voters = {PeerNamed("n0")};
  Configuration second = first;
  second.voters.push_back(PeerNamed("n1"));
  EntryTable table({Term{0}, kNoIndex}, Configuration());
  table.Append(Term{1}, EntryKind::kConfiguration, 5, first);
  for (uint64_t i = 1; i <= 9; ++i) table.Append(Term{1 + i / 5}, EntryKind::kCommand, 10 * i, std::nullopt);
  table.Append(Term{3}, EntryKind::kConfiguration, 5, second);
  EXPECT_EQ(table.last(), (TermIndex{Term{3}, Index{10}}));
  EXPECT_EQ(table.configuration(), second);
  EXPECT_EQ(table.TermAt(Index{4}), Term{1});
  EXPECT_EQ(table.TermAt(Index{5}), Term{2});
  EXPECT_EQ(table.TermAt(Index{11}), std::nullopt);
  uint64_t bytes = 0;
  EXPECT_EQ(table.BatchEnd(Index{1}, 160, &bytes), Index{4});
  EXPECT_EQ(bytes, 60u + 3 * kEntryOverheadBytes);
  EXPECT_EQ(table.BatchEnd(Index{9}, 1, &bytes), Index{10});  // one too large travels alone

  table.CompactTo(Index{6});
  EXPECT_EQ(table.first(), Index{7});
  EXPECT_EQ(table.TermAt(Index{6}), Term{2});
  EXPECT_EQ(table.TermAt(Index{5}), std::nullopt);
  EXPECT_EQ(table.BytesAt(Index{7}), 70u);
  table.TruncateFrom(Index{9});
  EXPECT_EQ(table.last(), (TermIndex{Term{2}, Index{8}}));
  EXPECT_EQ(table.configuration(), first);
  EXPECT_EQ(table.configuration_index(), Index{0});
  table.CompactTo(Index{8});
  EXPECT_EQ(table.last(), (TermIndex{Term{2}, Index{8}}));
}

}  // namespace
}  // namespace sluice::raft
