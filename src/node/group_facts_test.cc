#include "node/group_facts.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "node/blob_command.h"

namespace sluice::node {
namespace {

Command CommandOf(const Bytes& entry) {
  const auto command = DecodeCommand(entry);
  EXPECT_TRUE(command.ok()) << command.status();
  return command.value_or(Command{});
}

TEST(GroupFacts, D01_EntrySaysModeAndMachine) {
  const auto facts = FactsOf(CommandOf(EncodeFactsEntry({GroupMode::kSluice, "blob"})));
  ASSERT_TRUE(facts.ok() && *facts);
  EXPECT_EQ((*facts)->mode, GroupMode::kSluice);
  EXPECT_EQ((*facts)->machine, "blob");
}

TEST(GroupFacts, D01_WhatTheLogSaysCountsAndNotTheCommandLine) {
  GroupSpec spec;
  spec.machine = "blob";
  ASSERT_EQ(spec.mode, GroupMode::kSluice);
  EXPECT_TRUE(CheckFacts(spec, {}, {GroupMode::kSluice, "blob"}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckFacts(spec, {}, {GroupMode::kSluice, "counter"})));
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckFacts(spec, {}, {GroupMode::kRatis, "blob"})));
}

TEST(GroupFacts, K7_EntrySaysTheCluster) {
  const ClusterId cluster{{1, 2, 3}};
  const auto facts = FactsOf(CommandOf(EncodeFactsEntry({GroupMode::kSluice, "blob", cluster})));
  ASSERT_TRUE(facts.ok() && *facts);
  EXPECT_EQ((*facts)->cluster, cluster);
  GroupSpec spec;
  spec.machine = "blob";
  EXPECT_TRUE(CheckFacts(spec, cluster, **facts).ok());
  EXPECT_TRUE(CheckFacts(spec, ClusterId{}, **facts).ok()) << "it learns it here";
  const absl::Status other = CheckFacts(spec, ClusterId{{9}}, **facts);
  EXPECT_TRUE(absl::IsFailedPrecondition(other)) << other;
  EXPECT_NE(Message(other).find(cluster.ToString()), std::string_view::npos) << other;
  EXPECT_NE(Message(other).find(ClusterId{{9}}.ToString()), std::string_view::npos) << other;
}

// Whoever gets a stream's entry under the servers' own client id past every door still says nothing about the
// group: its entry is another type.
TEST(GroupFacts, D01_StreamUnderTheReservedIdIsNoFacts) {
  BlobCommand publish;
  publish.upload = {kSystemClient, CallId{0}};
  const auto facts = FactsOf(CommandOf(
      EncodeCommand({CommandType::kDataStream, kSystemClient, CallId{0}, EncodeBlobCommand(publish)})));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_FALSE(facts->has_value());
}

}  // namespace
}  // namespace sluice::node
