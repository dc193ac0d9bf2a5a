#include "env/crew.h"

#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>

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
    const Crew::Wait waiting;
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
  auto crew = NewCrew("test", /*threads_max=*/3, /*waiting_max=*/1);
  for (int round = 0; round < 20; ++round) {
    std::promise<void> inner;
    std::promise<void> outer;
    crew->PostForeign([&] {
      const Crew::Wait waiting;
      inner.get_future().wait();
      // The thread may be held up behind this line, and then counts as waiting while the next round begins:
      // what bounds the threads is the crew, not how fast they come back.
      outer.set_value();
    });
    asio::post(crew->context(), [&] { inner.set_value(); });
    outer.get_future().wait();
  }
  EXPECT_LE(crew->threads(), 1u + 3 + 1);
}

TEST(Crew, K25_TheLoopHasAThreadWhateverHandlersDo) {
  auto crew = NewCrew("test", 1);
  std::promise<void> brought;
  std::promise<void> ended;
  asio::post(crew->context(), [&] {
    Crew::Foreign foreign(crew.get(), nullptr);
    brought.get_future().wait();  // without a word: the watch finds it
    ended.set_value();
  });
  std::promise<bool> here;
  asio::post(crew->context(), [&] { here.set_value(crew->RunsHere() && crew->full()); });
  EXPECT_TRUE(here.get_future().get());
  crew->Post([&] { brought.set_value(); });  // only the loop brings it
  ended.get_future().wait();
  EXPECT_EQ(crew->threads(), 2u);
}

TEST(Crew, K25_HandlersBeyondTheBoundsWaitAndTheLoopGoesOn) {
  constexpr int kHandlers = 50;
  for (const bool says_so : {true, false}) {
    auto crew = NewCrew("test", /*threads_max=*/3, /*waiting_max=*/5);
    // One that was found busy before it said that it waits has taken a place of both kinds by then, so those
    // who say so may be more than five; they are never more than both bounds.
    const size_t inside_min = says_so ? 5 : 3;
    const size_t inside_max = says_so ? 3 + 5 : 3;
    std::mutex mutex;
    std::condition_variable changed;
    size_t inside = 0;
    size_t over = 0;
    bool open = false;
    for (int i = 0; i < kHandlers; ++i) {
      crew->PostForeign([&] {
        std::optional<Crew::Wait> waiting;
        if (says_so) waiting.emplace();
        std::unique_lock lock(mutex);
        ++inside;
        changed.notify_all();
        changed.wait(lock, [&] { return open; });
        ++over;
        changed.notify_all();
      });
    }
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return inside >= inside_min; });
    }
    // The loop runs what is no handler, many times over, and no further handler.
    size_t inside_when_full = 0;
    for (int i = 0; i < 100; ++i) {
      std::promise<void> ran;
      crew->Post([&] { ran.set_value(); });
      ran.get_future().wait();
      std::unique_lock lock(mutex);
      if (i == 0) inside_when_full = inside;
      EXPECT_TRUE(crew->full());
    }
    std::unique_lock lock(mutex);
    EXPECT_EQ(inside, inside_when_full);
    EXPECT_LE(inside, inside_max);
    open = true;
    changed.notify_all();
    changed.wait(lock, [&] { return over == kHandlers; });
    lock.unlock();
    EXPECT_LE(crew->threads(), 1u + 3 + 5 + 1);
  }
}

TEST(Crew, K25_ThoseWhoSayThatTheyWaitTakeNoPlaceOfOthers) {
  auto crew = NewCrew("test", /*threads_max=*/2);
  constexpr int kWaiting = 100;
  std::promise<void> brought;
  const std::shared_future<void> future = brought.get_future().share();
  std::atomic<int> over = 0;
  for (int i = 0; i < kWaiting; ++i) {
    crew->PostForeign([&] {
      const Crew::Wait waiting;
      future.wait();
      ++over;
    });
  }
  std::promise<void> last;  // a handler like any other
  crew->PostForeign([&] { last.set_value(); });
  last.get_future().wait();
  EXPECT_EQ(over, 0);
  crew->Post([&] { brought.set_value(); });
  crew->Stop();
  EXPECT_EQ(over, kWaiting);
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
