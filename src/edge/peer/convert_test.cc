// What no honest server says to another is refused, number by number (F-59, F-61).
#include "edge/peer/convert.h"

#include <gtest/gtest.h>

#include <limits>

#include "node/command.h"

namespace sluice::edge::peer {
namespace {

const UploadId kUpload{*ClientId::FromBytes("client-of-a-test"), CallId{7}};

pb::SealedUpload Sealed() {
  node::SealedUpload upload{
      .upload = kUpload, .header = {.name = "a"}, .sealed = {3, 5, Sha256{}}, .holders = {{"n0"}, {"n1"}}};
  pb::SealedUpload out;
  ToProto(upload, &out);
  return out;
}

template <typename Proto>
void Refused(const Proto& proto) {
  EXPECT_TRUE(absl::IsInvalidArgument(FromProto(proto).status())) << proto.ShortDebugString();
}

TEST(PeerConvert, F61_SealedUploadsAreChecked) {
  const auto back = FromProto(Sealed());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->upload, kUpload);
  EXPECT_EQ(back->header.name, "a");
  EXPECT_EQ(back->sealed, (blob::Sealed{3, 5, Sha256{}}));
  EXPECT_EQ(back->holders.size(), 2u);
  pb::SealedUpload changed = Sealed();
  changed.mutable_upload()->set_client_id("short");
  Refused(changed);
  changed = Sealed();
  changed.set_digest("no digest");
  Refused(changed);
  changed = Sealed();
  changed.add_holders("");
  Refused(changed);
  changed = Sealed();
  changed.mutable_header()->set_name(std::string("\0", 1));
  Refused(changed);
  changed = Sealed();
  for (int i = 2; i < kHoldersMax; ++i) changed.add_holders("n2");
  EXPECT_TRUE(FromProto(changed).ok());
  changed.add_holders("n2");
  Refused(changed);
}

TEST(PeerConvert, F59_F61_AnswersAreChecked) {
  pb::HaveReply have;
  ToProto(node::HaveReply{.state = node::HoldState::kSealed, .sealed = {3, 5, {}}}, &have);
  EXPECT_TRUE(FromProto(have).ok());
  have.set_state(static_cast<pb::HaveReply::State>(3));
  Refused(have);
  have.set_state(pb::HaveReply::SEALED);
  have.set_digest("x");
  Refused(have);

  pb::QueryWriteReply write;
  EXPECT_TRUE(absl::IsNotFound(FromProto(write).status()));
  write.set_found(true);
  write.set_committed(std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(FromProto(write).ok());
  write.set_committed(uint64_t{1} << 63);
  Refused(write);

  pb::Outcome outcome;
  ToProto(node::ClientReply{}, &outcome);
  EXPECT_TRUE(FromProto(outcome).ok());
  outcome.set_log_index(-2);
  Refused(outcome);
  outcome.set_log_index(-1);
  outcome.set_code(static_cast<pb::Outcome::Code>(99));
  Refused(outcome);
  outcome.set_code(pb::Outcome::OK);
  for (int i = 0; i <= kHoldersMax; ++i) outcome.add_peers()->set_id("n0");
  Refused(outcome);
}

TEST(PeerConvert, K24_F59_AnswersAboutLostEntriesAreChecked) {
  pb::RecallReply reply;
  ToProto(raft::RecallReply{.term = Term{4},
                            .leads = true,
                            .base = Index{3},
                            .entries = {{Term{2}, true, raft::EntryKind::kCommand, Bytes::Copy("x")}},
                            .previous_term = Term{2},
                            .end = Index{5}},
          &reply);
  ASSERT_TRUE(FromProto(reply).ok());
  EXPECT_TRUE(FromProto(reply)->leads);
  const auto with = [&reply](auto change) {
    pb::RecallReply changed = reply;
    change(changed);
    Refused(changed);
  };
  with([](auto& changed) { changed.set_term(uint64_t{1} << 62); });
  with([](auto& changed) { changed.set_previous_term(uint64_t{1} << 62); });
  with([](auto& changed) { changed.set_base(-2); });
  with([](auto& changed) { changed.set_base(int64_t{1} << 62); });
  with([](auto& changed) { changed.set_end(-1); });
  with([](auto& changed) { changed.mutable_entries(0)->set_term(uint64_t{1} << 62); });
  with([](auto& changed) { changed.mutable_entries(0)->set_kind(9); });
  with([](auto& changed) { changed.mutable_entries(0)->set_kind(1); });  // "x" is no configuration
  with([](auto& changed) {
    for (size_t i = 0; i < raft::kRecalledMax; ++i) changed.add_entries();
  });
  pb::RecallRequest request;
  request.set_from(-1);
  EXPECT_TRUE(FromProto(request).ok());
  request.set_from(-2);
  Refused(request);
  request.set_from(0);
  request.set_fence(uint64_t{1} << 62);
  Refused(request);
}

// What the servers themselves write is not to be had by asking.
TEST(PeerConvert, F66_TheServersOwnClientIdIsReserved) {
  pb::PublishRequest publish;
  ToProto(node::PublishRequest{.group = kDefaultGroup, .upload = *FromProto(Sealed())}, &publish);
  EXPECT_TRUE(FromProto(publish).ok());
  publish.set_inline_data(std::string(kInlineBytesMax + 1, 'x'));
  Refused(publish);
  publish.clear_inline_data();
  publish.mutable_upload()->mutable_upload()->set_client_id(std::string(node::kSystemClient.AsBytes()));
  Refused(publish);
  pb::RemoveRequest remove;
  ToProto(node::RemoveRequest{kDefaultGroup, "a", kUpload.client, CallId{1}}, &remove);
  EXPECT_TRUE(FromProto(remove).ok());
  remove.set_client_id(std::string(node::kSystemClient.AsBytes()));
  Refused(remove);
}

}  // namespace
}  // namespace sluice::edge::peer
