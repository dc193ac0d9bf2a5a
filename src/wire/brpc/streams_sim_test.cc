#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "wire/brpc/stream_pair.h"

namespace sluice::wire::brpc {
namespace {

TEST(StreamsSim, F63_F64_F73_OrderCreditAndOneEndUnderCutsAndLosses) {
  const char* wanted = std::getenv("SLUICE_SEEDS");
  const char* only = std::getenv("SLUICE_SEED");
  const uint64_t seeds = wanted == nullptr ? 400 : std::strtoull(wanted, nullptr, 10);
  const uint64_t first = only == nullptr ? 1 : std::strtoull(only, nullptr, 10);
  size_t streams = 0;
  size_t delivered = 0;
  size_t refused = 0;
  for (uint64_t seed = first; seed <= (only == nullptr ? seeds : first); ++seed) {
    std::mt19937_64 random(seed);
    StreamPair pair([&](uint64_t below) { return random() % below; });
    const uint64_t steps = 200 + random() % 2000;
    const uint64_t lost_at = random() % 3 == 0 ? random() % steps : steps;
    for (uint64_t i = 0; i < steps && pair.violation().empty(); ++i) {
      pair.Step();
      if (i == lost_at) pair.Lose();
    }
    if (pair.violation().empty()) pair.Finish();
    ASSERT_EQ(pair.violation(), "") << "seed " << seed;
    streams += pair.streams();
    delivered += pair.delivered();
    refused += pair.refused();
  }
  EXPECT_GT(streams, first == 1 ? seeds * 10 : 0u);  // the runs did something
  EXPECT_GT(delivered, streams * 2);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace sluice::wire::brpc
