#include "sim/packet_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Side = Connection::Side;

class PacketNetworkTest : public testing::Test {
 protected:
  void SendNumbers(int count) {
    for (int i = 0; i < count; ++i) network_.Send(a_, b_, [this, i] { got_.push_back(i); });
  }
  World world_{11};
  PacketNetwork network_{world_};
  const PeerId a_{"a"}, b_{"b"}, c_{"c"};
  std::vector<int> got_;
};

TEST_F(PacketNetworkTest, DeliversLaterNotInsideSend) {
  SendNumbers(1);
  EXPECT_TRUE(got_.empty());
  EXPECT_TRUE(world_.RunUntilIdle(seconds(1)));
  EXPECT_EQ(got_.size(), 1u);
}

TEST_F(PacketNetworkTest, F47_LosesDoublesAndReordersBySeed) {
  network_.SetLink(a_, b_, {.loss = 0.2, .duplicate = 0.2, .reorder = 0.3});
  SendNumbers(1000);
  EXPECT_TRUE(world_.RunUntilIdle(seconds(1)));
  std::vector<int> sorted = got_;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_FALSE(std::is_sorted(got_.begin(), got_.end()));
  const auto unique_end = std::unique(sorted.begin(), sorted.end());
  EXPECT_NE(unique_end, sorted.end());
  EXPECT_NEAR(static_cast<double>(unique_end - sorted.begin()), 800, 60);
  EXPECT_EQ(network_.counts().sent, 1000u);
  EXPECT_EQ(network_.counts().delivered, got_.size());

  World again(11);
  PacketNetwork twin(again);
  std::vector<int> twin_got;
  twin.SetLink(a_, b_, {.loss = 0.2, .duplicate = 0.2, .reorder = 0.3});
  for (int i = 0; i < 1000; ++i) twin.Send(a_, b_, [&, i] { twin_got.push_back(i); });
  again.RunUntilIdle(seconds(1));
  EXPECT_EQ(got_, twin_got);
}

TEST_F(PacketNetworkTest, F45_CutIsOneWayAndTakesWhatIsUnderway) {
  SendNumbers(1);
  network_.Cut(a_, b_);
  bool back = false;
  network_.Send(b_, a_, [&] { back = true; });
  SendNumbers(1);
  world_.RunFor(seconds(1));
  EXPECT_TRUE(got_.empty());
  EXPECT_TRUE(back);
  network_.Heal();
  SendNumbers(1);
  world_.RunFor(seconds(1));
  EXPECT_EQ(got_.size(), 1u);
}

TEST_F(PacketNetworkTest, F43_F46_IsolationAndPartitions) {
  network_.Isolate(a_);
  EXPECT_FALSE(network_.CanReach(a_, b_) || network_.CanReach(b_, a_));
  EXPECT_TRUE(network_.CanReach(b_, c_) && network_.CanReach(a_, a_));
  network_.Rejoin(a_);
  network_.Partition({{a_}, {b_}});
  EXPECT_FALSE(network_.CanReach(a_, b_) || network_.CanReach(b_, a_));
  EXPECT_TRUE(network_.CanReach(a_, c_) && network_.CanReach(c_, b_)) << "the ring of F-46";
  network_.Heal();
  EXPECT_TRUE(network_.CanReach(a_, b_));
}

TEST_F(PacketNetworkTest, RestartedServerGetsNothingMeantForItsPredecessor) {
  SendNumbers(1);
  network_.Down(b_);
  SendNumbers(1);
  network_.Up(b_);
  world_.RunFor(seconds(1));
  EXPECT_TRUE(got_.empty());
  SendNumbers(1);
  world_.RunFor(seconds(1));
  EXPECT_EQ(got_.size(), 1u);
}

class ConnectionTest : public PacketNetworkTest {
 protected:
  void Open() {
    connection_ = network_.Connect(a_, b_);
    connection_->OnBreak(Side::kOpener, [this] { ++opener_breaks_; });
    connection_->OnBreak(Side::kAcceptor, [this] { ++acceptor_breaks_; });
  }
  void Send(int i) {
    connection_->Send(Side::kOpener, [this, i] { got_.push_back(i); });
  }
  std::shared_ptr<Connection> connection_;
  int opener_breaks_ = 0;
  int acceptor_breaks_ = 0;
};

TEST_F(ConnectionTest, KeepsOrderOverABadLinkAndLosesNothing) {
  network_.SetAllLinks({.loss = 0.3, .duplicate = 0.3, .reorder = 0.5, .delay_max = milliseconds(50)});
  Open();
  int echoed = 0;
  for (int i = 0; i < 200; ++i) {
    Send(i);
    connection_->Send(Side::kAcceptor, [&] { ++echoed; });
  }
  EXPECT_TRUE(world_.RunUntilIdle(seconds(60)));
  EXPECT_EQ(got_.size(), 200u);
  EXPECT_TRUE(std::is_sorted(got_.begin(), got_.end()));
  EXPECT_EQ(echoed, 200);
  EXPECT_FALSE(connection_->broken());
}

TEST_F(ConnectionTest, SurvivesAShortCutAndBreaksInALongOne) {
  Open();
  network_.Cut(b_, a_);
  for (int i = 0; i < 3; ++i) Send(i);
  world_.RunFor(seconds(2));
  EXPECT_TRUE(got_.empty());
  network_.Heal();
  world_.RunFor(seconds(2));
  EXPECT_THAT(got_, testing::ElementsAre(0, 1, 2));
  network_.Cut(a_, b_);
  Send(3);
  world_.RunFor(seconds(10));
  EXPECT_TRUE(connection_->broken());
  EXPECT_EQ(opener_breaks_ + acceptor_breaks_, 2);
  network_.Heal();
  Send(4);
  EXPECT_TRUE(world_.RunUntilIdle(seconds(10)));
  EXPECT_EQ(got_.size(), 3u);
  bool told = false;
  connection_->OnBreak(Side::kOpener, [&] { told = true; });
  EXPECT_TRUE(told);
}

TEST_F(ConnectionTest, F45_DeliversOneWayUntilAcknowledgementsAreMissedForTooLong) {
  Open();
  Send(0);
  world_.RunFor(seconds(1));
  network_.Cut(b_, a_);
  Send(1);
  world_.RunFor(seconds(1));
  EXPECT_THAT(got_, testing::ElementsAre(0, 1));
  EXPECT_FALSE(connection_->broken());
  world_.RunFor(seconds(3));
  EXPECT_TRUE(connection_->broken());
  Send(2);
  const auto next = network_.Connect(a_, b_);
  next->Send(Side::kOpener, [this] { got_.push_back(3); });
  world_.RunFor(seconds(5));
  EXPECT_THAT(got_, testing::ElementsAre(0, 1)) << "a new one needs both directions";
}

TEST_F(ConnectionTest, DeadServerBreaksItForTheOtherSideOnly) {
  Open();
  Send(1);
  network_.Down(b_);
  EXPECT_TRUE(world_.RunUntilIdle(seconds(10)));
  EXPECT_TRUE(got_.empty());
  EXPECT_EQ(opener_breaks_, 1);
  EXPECT_EQ(acceptor_breaks_, 0);
  const auto refused = network_.Connect(a_, b_);
  EXPECT_TRUE(world_.RunUntilIdle(seconds(10)));
  EXPECT_TRUE(refused->broken());
}

}  // namespace
}  // namespace sluice::sim
