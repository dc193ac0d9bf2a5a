#include "node/disk_room.h"

#include <gtest/gtest.h>

#include "sim/sim_executor.h"
#include "sim/sim_files.h"
#include "sim/world.h"

namespace sluice::node {
namespace {

constexpr uint64_t kReserve = 10 << 20;
constexpr uint64_t kPut = 64 << 10;

class DiskRoomTest : public testing::Test {
 protected:
  DiskRoomTest() : executors_(world_, process_), disk_(executors_.NewExecutor("disk")) {
    Leave(100 << 20);
    room_ = std::make_unique<DiskRoom>(files_, *disk_, world_, "/", kReserve);
  }
  void Leave(uint64_t bytes) { files_.SetCapacity(bytes); }  // nothing is stored
  // Until the disk has been asked again.
  void Pass() {
    world_.RunFor(std::chrono::milliseconds(200));
    (void)room_->Admit(0);
    world_.RunFor(std::chrono::milliseconds(1));
  }

  sim::SimFiles files_;
  sim::World world_{1};
  sim::Process process_;
  sim::SimExecutors executors_;
  std::unique_ptr<env::Executor> disk_;
  std::unique_ptr<DiskRoom> room_;
};

TEST_F(DiskRoomTest, K23_F12_SmallPutsStopAtTheReserveAndGoOnWithRoom) {
  EXPECT_TRUE(room_->Admit(kPut).ok());
  Leave(kReserve);
  Pass();
  const absl::Status full = room_->Admit(kPut);
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_TRUE(room_->Admit(100).ok()) << "it may name bytes that are there";
  Leave(kReserve / 2);
  Pass();
  EXPECT_TRUE(absl::IsResourceExhausted(room_->Admit(100)));
  Leave(100 << 20);
  Pass();
  EXPECT_TRUE(room_->Admit(kPut).ok());
}

TEST_F(DiskRoomTest, K23_ADiskThatDoesNotAnswerIsNotOverrun) {
  Leave(40 << 20);
  Pass();
  uint64_t admitted = 0;
  while (room_->Admit(kPut).ok()) admitted += kPut;  // the executor does not run meanwhile
  EXPECT_GT(admitted, 5u << 20);
  EXPECT_LE(3 * admitted, 30u << 20);
  Pass();
  EXPECT_TRUE(room_->Admit(kPut).ok());
}

}  // namespace
}  // namespace sluice::node
