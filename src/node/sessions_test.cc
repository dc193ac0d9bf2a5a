// The table of remembered replies, and which of them are still needed.
#include "node/sessions.h"

#include <gtest/gtest.h>

#include "node/log_clock.h"
#include "node/reply_ages.h"

namespace sluice::node {
namespace {

UploadId Key(uint64_t call) { return {ClientId{{1}}, CallId{call}}; }

StoredReply Reply(int64_t index, std::string_view text) {
  StoredReply stored;
  stored.index = Index{index};
  stored.reply = Bytes::Copy(text);
  stored.content = static_cast<uint32_t>(index) * 7;
  return stored;
}

TEST(Sessions, K5_KnowsTheLargestThatIsRemembered) {
  Sessions sessions;
  EXPECT_EQ(sessions.largest(), 0u);
  const auto record = [&](int64_t from, int64_t end, size_t bytes) {
    for (int64_t i = from; i < end; ++i) {
      sessions.Record(Key(static_cast<uint64_t>(i)), Reply(i, std::string(bytes, 'r')));
    }
    return Sessions::BytesOf(Reply(0, std::string(bytes, 'r')));
  };
  const uint64_t small = record(0, 5000, 50);
  EXPECT_EQ(sessions.largest(), small);
  const uint64_t large = record(5000, 5001, 100'000);
  EXPECT_EQ(sessions.largest(), large);
  const uint64_t middle = record(5001, 6000, 2'000);
  EXPECT_EQ(sessions.largest(), large);
  sessions.ForgetBefore(Index{5000});
  EXPECT_EQ(sessions.largest(), large);
  sessions.ForgetBefore(Index{5500});
  EXPECT_EQ(sessions.largest(), middle);
  sessions.ForgetBefore(Index{6000});
  EXPECT_EQ(sessions.largest(), 0u);
}

TEST(Sessions, FindsWhatWasRecordedAndForgetsFromTheOldest) {
  Sessions sessions;
  EXPECT_FALSE(sessions.Find(ClientId{{1}}, CallId{1}));
  for (int64_t i = 0; i < 5000; ++i) {
    sessions.Record(Key(static_cast<uint64_t>(i)), Reply(i, std::string(static_cast<size_t>(i) % 100, 'r')));
  }
  StoredReply failed{Index{5000}, absl::NotFoundError("it does not exist"), 9};
  sessions.Record(Key(5000), failed);
  const uint64_t all = sessions.bytes();
  sessions.ForgetBefore(Index{2000});
  EXPECT_EQ(sessions.size(), 3001u);
  EXPECT_LT(sessions.bytes(), all);
  EXPECT_FALSE(sessions.Find(ClientId{{1}}, CallId{1999}));
  EXPECT_FALSE(sessions.Find(ClientId{{2}}, CallId{2000}));
  for (int64_t i = 2000; i < 5000; ++i) {
    const auto found = sessions.Find(ClientId{{1}}, CallId{static_cast<uint64_t>(i)});
    ASSERT_TRUE(found) << i;
    EXPECT_EQ(found->index, Index{i});
    EXPECT_EQ(found->reply->size(), static_cast<size_t>(i) % 100);
    EXPECT_EQ(found->content, static_cast<uint32_t>(i) * 7);
  }
  const auto found = sessions.Find(ClientId{{1}}, CallId{5000});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->reply.status(), failed.reply.status());
  sessions.ForgetBefore(Index{6000});
  EXPECT_EQ(sessions.size(), 0u);
  EXPECT_EQ(sessions.bytes(), 0u);
}

TEST(Sessions, TheLastReplyUnderTheSameIdsCounts) {
  Sessions sessions;
  sessions.Record(Key(1), Reply(1, "first"));
  sessions.Record(Key(2), Reply(2, "other"));
  sessions.Record(Key(1), Reply(3, "second"));
  EXPECT_EQ(*sessions.Find(ClientId{{1}}, CallId{1})->reply, "second");
  sessions.ForgetBefore(Index{2});
  EXPECT_EQ(*sessions.Find(ClientId{{1}}, CallId{1})->reply, "second");
  sessions.ForgetBefore(Index{4});
  EXPECT_FALSE(sessions.Find(ClientId{{1}}, CallId{1}));
}

// At 45,000 writes a second there are 2.7 million replies within a minute.
TEST(Sessions, K5_ASmallReplyTakesLessThanAHundredBytes) {
  Sessions sessions;
  constexpr uint64_t kReplies = 50'000;
  for (uint64_t i = 0; i < kReplies; ++i) sessions.Record(Key(i), Reply(static_cast<int64_t>(i), "abcd"));
  EXPECT_LT(sessions.bytes(), 100 * kReplies);
  EXPECT_TRUE(sessions.Find(ClientId{{1}}, CallId{0}));
  EXPECT_TRUE(sessions.Find(ClientId{{1}}, CallId{kReplies - 1}));
}

TEST(Sessions, RecordsAreReadAsTheyWereWritten) {
  for (const StoredReply& stored :
       {Reply(7, "answer"), Reply(8, ""),
        StoredReply{Index{9}, absl::AlreadyExistsError("other bytes"), 3, Index{4}, 60'001}}) {
    const auto read = DecodeReply(stored.index, EncodeReply(Key(4), stored));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->key, Key(4));
    EXPECT_EQ(read->stored.since_ms, stored.since_ms);
    EXPECT_EQ(read->stored.index, stored.index);
    EXPECT_EQ(read->stored.entry(), stored.entry());
    EXPECT_EQ(read->stored.content, stored.content);
    EXPECT_EQ(read->stored.reply.status(), stored.reply.status());
    if (stored.reply.ok()) {
      EXPECT_EQ(*read->stored.reply, *stored.reply);
    }
  }
  EXPECT_TRUE(absl::IsDataLoss(DecodeReply(Index{1}, "no record").status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeReply(Index{1}, "").status()));
}

TEST(ReplyAges, F68_K5_ARepliesAgeIsTheLogsTimeAndNotTheirNumber) {
  ReplyAges ages(1u << 30, 60'000);
  ages.Clock(1000);
  Index index{0};
  for (int i = 0; i < 200'000; ++i) ages.Add(index = index.Next(), 60);
  const Index old = index;
  ages.Clock(2000);
  ages.Add(index = index.Next(), 60);
  ages.Clock(61'999);
  EXPECT_EQ(ages.first_kept(), kNoIndex) << "a reply was made up to a second after its clock entry";
  ages.Clock(62'000);
  EXPECT_EQ(ages.first_kept(), old.Next());
  EXPECT_EQ(ages.bytes(), 60u);
  ages.Clock(50'000);
  EXPECT_EQ(ages.now_ms(), 62'000) << "the log's time never goes back";
}

TEST(ReplyAges, K5_MoreThanTheBytesAreForgottenEarly) {
  ReplyAges ages(64'000, 60'000);
  for (int64_t i = 0; i < 2000; ++i) ages.Add(Index{i}, 64);
  EXPECT_LE(ages.bytes(), 64'000u);
  EXPECT_GT(ages.bytes(), 60'000u);
  EXPECT_GT(ages.first_kept(), Index{900});
  EXPECT_LE(ages.first_kept(), Index{1030});
}

TEST(LogClock, AnEntryIsReadAsItWasWrittenAndNothingElseIsOne) {
  const auto clock = DecodeCommand(EncodeClockEntry(123'456));
  ASSERT_TRUE(clock.ok());
  EXPECT_EQ(ClockOf(*clock), 123'456);
  Command other = *clock;
  other.client = ClientId{{1}};
  EXPECT_EQ(ClockOf(other), std::nullopt);
  other = *clock;
  other.call = CallId{0};
  EXPECT_EQ(ClockOf(other), std::nullopt);
}

}  // namespace
}  // namespace sluice::node
