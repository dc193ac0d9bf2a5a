#include "env/crew.h"

#include <future>

#include <asio/post.hpp>

#include "gtest/gtest.h"

namespace sluice::env {
namespace {

TEST(Crew, ALoopGoesOnBesideCodeThatWaitsForIt) {
  auto crew = NewCrew("test", 4);
  std::promise<void> brought;
  std::promise<bool> result;
  asio::post(crew->context(), [&] {
    Crew::Foreign foreign(crew.get(), nullptr);
    // Only the loop itself brings it; nobody said AboutToBlock: the watch finds it.
    brought.get_future().wait();
    result.set_value(crew->RunsHere());
  });
  crew->Post([&] { brought.set_value(); });
  EXPECT_FALSE(result.get_future().get()) << "the thread that waited has no loop any more";
  EXPECT_EQ(crew->threads(), 2u);
}

TEST(Crew, CodeThatSaysSoGivesTheLoopAwayAtOnceAndItsHookRunsFirst) {
  auto crew = NewCrew("test", 4);
  std::promise<void> done;
  bool hook_ran = false;
  asio::post(crew->context(), [&] {
    absl::AnyInvocable<void()> hook = [&] { hook_ran = true; };
    Crew::Foreign foreign(crew.get(), &hook);
    Crew::AboutToBlock();
    EXPECT_TRUE(hook_ran);
    EXPECT_FALSE(crew->RunsHere());
    done.set_value();
  });
  done.get_future().wait();
  std::promise<bool> here;
  asio::post(crew->context(), [&] { here.set_value(crew->RunsHere()); });
  EXPECT_TRUE(here.get_future().get());
}

TEST(Crew, ThreadsAreUsedAgainAndBounded) {
  auto crew = NewCrew("test", 3);
  for (int round = 0; round < 20; ++round) {
    std::promise<void> inner;
    std::promise<void> outer;
    asio::post(crew->context(), [&] {
      Crew::Foreign foreign(crew.get(), nullptr);
      Crew::AboutToBlock();
      inner.get_future().wait();
      outer.set_value();
    });
    asio::post(crew->context(), [&] { inner.set_value(); });
    outer.get_future().wait();
  }
  EXPECT_LE(crew->threads(), 3u);
}

TEST(Crew, WithoutAnotherThreadTheLoopWaitsAndGoesOn) {
  auto crew = NewCrew("test", 1);
  std::promise<void> outside;
  std::promise<void> after;
  asio::post(crew->context(), [&] {
    Crew::Foreign foreign(crew.get(), nullptr);
    Crew::AboutToBlock();
    EXPECT_TRUE(crew->RunsHere());
    outside.get_future().wait();
  });
  asio::post(crew->context(), [&] { after.set_value(); });
  outside.set_value();
  after.get_future().wait();
  EXPECT_EQ(crew->threads(), 1u);
}

TEST(Crew, PostsKeepTheirOrderAndTimersRun) {
  auto crew = NewCrew("test", 4);
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) crew->Post([&order, i] { order.push_back(i); });
  std::promise<void> due;
  crew->PostAfter(std::chrono::milliseconds(1), [&] { due.set_value(); });
  due.get_future().wait();
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(Crew, ItsEndWaitsForCodeOfOthers) {
  bool ended = false;
  std::promise<void> begun;
  std::promise<void> go;
  std::thread helper;
  {
    auto crew = NewCrew("test", 4);
    asio::post(crew->context(), [&] {
      Crew::Foreign foreign(crew.get(), nullptr);
      begun.set_value();
      go.get_future().wait();
      ended = true;
    });
    begun.get_future().wait();
    helper = std::thread([&] { go.set_value(); });
  }
  EXPECT_TRUE(ended);
  helper.join();
}

}  // namespace
}  // namespace sluice::env
