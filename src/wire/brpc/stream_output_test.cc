// Windows, budgets, feedback, turns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "wire/brpc/streams_fixture.h"

namespace sluice::wire::brpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Written = Streams::Written;
using Phase = StreamState::Phase;

// --- Windows ---

TEST_F(StreamsTest, AWriteIsAllowedWhileTheWindowIsNotUsedUp) {
  StreamState* stream = Open(10);
  EXPECT_EQ(Write(stream, std::string(6, 'a')), Written::kWritten);
  EXPECT_EQ(Write(stream, std::string(100, 'b')), Written::kWritten) << "the size does not matter";
  EXPECT_EQ(Write(stream, "c"), Written::kFull);
  EXPECT_EQ(Write(stream, ""), Written::kFull);
  EXPECT_EQ(stream->stalls, 2u);
  EXPECT_EQ(stream->produced_bytes, 106u) << "a refusal changes nothing";
  EXPECT_FALSE(streams_->HasRoom(stream));
  Sent();
  Deliver(*streams_, Feedback(3, 7, 6) + Feedback(3, 7, 96));
  EXPECT_EQ(streams_->NextWritable(), nullptr);
  Deliver(*streams_, Feedback(3, 7, 97));
  EXPECT_EQ(streams_->NextWritable(), stream);
  EXPECT_EQ(streams_->NextWritable(), nullptr);
  EXPECT_TRUE(streams_->HasRoom(stream));
  EXPECT_EQ(Write(stream, "c"), Written::kWritten);
}

TEST_F(StreamsTest, NoWindowIsNoLimit) {
  StreamState* stream = Open(0);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Write(stream, std::string(1000, 'a')), Written::kWritten);
  Deliver(*streams_, Feedback(3, 7, 50'000));
  EXPECT_EQ(stream->phase, Phase::kOpen);
}

TEST_F(StreamsTest, WhoWaitsForRoomIsWokenByTheEnd) {
  StreamState* stream = Open(1);
  EXPECT_EQ(Write(stream, "a"), Written::kWritten);
  EXPECT_EQ(Write(stream, "a"), Written::kFull);
  Deliver(*streams_, Rst(3));
  EXPECT_EQ(streams_->NextWritable(), stream);
  EXPECT_FALSE(streams_->HasRoom(stream));
  EXPECT_EQ(streams_->NextWritable(), stream);
}

TEST_F(StreamsTest, APeerThatLostItsFirstFeedbackGetsOneMessageMore) {
  StreamState* stream = Open(10);
  EXPECT_FALSE(streams_->GrantSlack(stream)) << "it has room";
  EXPECT_EQ(Write(stream, std::string(100, 'a')), Streams::Written::kWritten);
  EXPECT_EQ(Write(stream, "b"), Streams::Written::kFull);
  EXPECT_TRUE(streams_->GrantSlack(stream));
  EXPECT_EQ(streams_->NextWritable(), stream);
  EXPECT_EQ(Write(stream, "b"), Streams::Written::kWritten);
  EXPECT_EQ(Write(stream, "c"), Streams::Written::kFull);
  EXPECT_FALSE(streams_->GrantSlack(stream)) << "once";
}

TEST_F(StreamsTest, WhoAsksForRoomBehindTheEndLeavesNothingBehind) {
  StreamState* stream = Open(1);
  Deliver(*streams_, Rst(3));
  ASSERT_EQ(streams_->NextReady(), stream);
  std::vector<Bytes> messages;
  EXPECT_TRUE(streams_->TakeMessages(stream, 1, &messages));
  streams_->Forget(stream);
  EXPECT_FALSE(streams_->HasRoom(stream));
  EXPECT_EQ(streams_->NextWritable(), nullptr) << "its owner may free it now";
}

TEST_F(StreamsTest, F73_ImpossibleCreditEndsItsStream) {
  StreamState* more = Open();
  StreamState* negative = Open();
  EXPECT_EQ(Write(more, "12345"), Written::kWritten);
  Sent();
  Deliver(*streams_, Feedback(3, 7, 6));
  Deliver(*streams_, Feedback(4, 8, -1));
  EXPECT_THAT(Sent(), ElementsAre("RST 7", "RST 8"));
  EXPECT_EQ(more->end_code, EPROTO);
  EXPECT_THAT(more->end_text, HasSubstr("6 bytes of stream 3 consumed, 5 were sent"));
  EXPECT_EQ(negative->end_code, EPROTO);
}

TEST_F(StreamsTest, F73_FeedbackThatGoesBackIsIgnored) {
  StreamState* stream = Open(10);
  EXPECT_EQ(Write(stream, std::string(20, 'a')), Written::kWritten);
  Deliver(*streams_, Feedback(3, 7, 15) + Feedback(3, 7, 3) + Feedback(3, 7, 15) + Feedback(3, {}, 0));
  Deliver(*streams_, Frame({.to = 3, .from = 7, .type = FrameType::kFeedback}));
  EXPECT_EQ(stream->remote_consumed_bytes, 15u);
  EXPECT_EQ(stream->phase, Phase::kOpen);
}

TEST_F(StreamsTest, F73_FeedbackBeforeTheAnswerIsIgnoredAndItsPayloadAlways) {
  StreamState* stream = Opening(1);
  EXPECT_EQ(Write(stream, "ab"), Written::kWritten);
  Deliver(*streams_, Feedback(3, 7, 99));
  EXPECT_EQ(stream->phase, Phase::kOpening);
  Connect(stream);
  Deliver(*streams_, Frame({.to = 3, .from = 7, .type = FrameType::kFeedback, .consumed = 2}, "payload"));
  EXPECT_EQ(stream->remote_consumed_bytes, 2u);
  streams_->Release(stream);
  EXPECT_THAT(HandOut(), IsEmpty());
}

TEST_F(StreamsTest, AdaptiveWindowsShrinkInACrowdAndGrowBack) {
  options_.unconsumed_bytes_max = 1000;
  Start();
  StreamState* stream = Open(800);
  stream->min_window_bytes = 100;
  StreamState* halves = Open(800);
  halves->min_window_bytes = 0;
  StreamState* other = Open(2000);
  StreamState* unlimited = Open(0);
  EXPECT_EQ(Write(unlimited, std::string(5000, 'u')), Written::kWritten);
  EXPECT_EQ(Write(other, std::string(1500, 'o')), Written::kWritten);
  EXPECT_EQ(Write(stream, "aa"), Written::kWritten);
  EXPECT_EQ(Write(halves, "aa"), Written::kWritten);
  Deliver(*streams_, Feedback(3, 7, 1) + Feedback(4, 8, 1));
  EXPECT_EQ(stream->window_now_bytes, 100u);
  EXPECT_EQ(halves->window_now_bytes, 400u);
  Deliver(*streams_, Feedback(5, 9, 1500));
  EXPECT_EQ(Write(stream, std::string(200, 'a')), Written::kWritten);
  Deliver(*streams_, Feedback(3, 7, 2));
  EXPECT_EQ(stream->window_now_bytes, 100u) << "nobody asked for more";
  EXPECT_EQ(Write(stream, "a"), Written::kFull);
  Deliver(*streams_, Feedback(3, 7, 10));
  EXPECT_EQ(stream->window_now_bytes, 200u);
  Deliver(*streams_, Feedback(6, 10, 5000));
  EXPECT_EQ(unlimited->window_now_bytes, 0u);
}

TEST_F(StreamsTest, AWindowNeverShrinksToNothing) {
  options_.unconsumed_bytes_max = 0;
  Start();
  StreamState* stream = Open(3);
  stream->min_window_bytes = 0;
  for (int64_t i = 1; i < 6; ++i) {
    EXPECT_EQ(Write(stream, "ab"), Written::kWritten);
    Deliver(*streams_, Feedback(3, 7, 2 * i - 1));
    EXPECT_GE(stream->window_now_bytes, 1u);
    Deliver(*streams_, Feedback(3, 7, 2 * i));
  }
}

TEST_F(StreamsTest, WhatIsNotPulledIsLimitedOnTheConnection) {
  options_.unsent_bytes_max = 4000;
  Start();
  StreamState* stream = Open(0);
  StreamState* other = Open(0);
  while (Write(stream, std::string(400, 'a')) == Written::kWritten)
    ASSERT_LT(streams_->unsent_bytes(), 10'000u);
  EXPECT_EQ(Write(other, "b"), Written::kFull);
  EXPECT_EQ(streams_->NextWritable(), nullptr);
  streams_->Tick();
  EXPECT_EQ(streams_->NextWritable(), nullptr);
  Sent();
  EXPECT_EQ(streams_->unsent_bytes(), 0u);
  EXPECT_EQ(streams_->NextWritable(), stream);
  EXPECT_EQ(streams_->NextWritable(), other);
  EXPECT_EQ(Write(other, "b"), Written::kWritten);
}

TEST_F(StreamsTest, WhatWasPromisedBeforeAddIsNeverRefused) {
  options_.unsent_bytes_max = 1;
  Start();
  StreamState* stream = Opening();
  for (const char* message : {"one", "two", "three"}) streams_->Accept(stream, Bytes::Copy(message));
  Connect(stream);
  EXPECT_EQ(Write(stream, "four"), Streams::Written::kFull);
  EXPECT_EQ(Sent().size(), 3u);
  EXPECT_EQ(Write(stream, "four"), Streams::Written::kWritten);
}

TEST_F(StreamsTest, AWriterWhoIsLateForTheRoomIsToldAgain) {
  options_.unsent_bytes_max = 1000;
  Start();
  StreamState* stream = Open(0);
  StreamState* quick = Open(0);
  EXPECT_EQ(Write(stream, std::string(1000, 'a')), Written::kWritten);
  EXPECT_EQ(Write(stream, "b"), Written::kFull);
  Sent();
  EXPECT_EQ(Write(quick, std::string(1000, 'c')), Written::kWritten);
  EXPECT_EQ(streams_->NextWritable(), nullptr) << "there is no room any more";
  Sent();
  EXPECT_EQ(streams_->NextWritable(), stream);
}

TEST_F(StreamsTest, WhatIsNotPulledIsLimitedInTheProcess) {
  budget_.unsent_bytes_max = 1000;
  Start();
  Streams elsewhere(options_, &budget_);
  StreamState stream;
  EXPECT_EQ(elsewhere.Write(&stream, Bytes::Copy(std::string(2000, 'a'))), Written::kWritten);
  StreamState* mine = Open();
  EXPECT_EQ(Write(mine, "b"), Written::kFull);
  EXPECT_TRUE(streams_->WaitsForBudget());
  streams_->Tick();
  EXPECT_EQ(streams_->NextWritable(), nullptr);
  elsewhere.Forget(&stream);
  streams_->Tick();
  EXPECT_EQ(streams_->NextWritable(), mine);
  EXPECT_FALSE(streams_->WaitsForBudget());
}

// --- Feedback ---

TEST_F(StreamsTest, FeedbackIsOneTotalWhenTheQueueRanEmpty) {
  Open();
  Deliver(*streams_, Data(3, 7, "12345") + Data(3, 7, "") + Data(3, 7, "678"));
  EXPECT_THAT(Sent(), IsEmpty());
  EXPECT_THAT(HandOut(1), ElementsAre("3:12345", "3:", "3:678"));
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =8"));
  Deliver(*streams_, Data(3, 7, ""));
  EXPECT_THAT(HandOut(), ElementsAre("3:"));
  EXPECT_THAT(Sent(), IsEmpty()) << "nothing new";
}

TEST_F(StreamsTest, ABusyReceiverReportsAfterFeedbackBytes) {
  options_.feedback_bytes = 10;
  Start();
  Open();
  Deliver(*streams_, Data(3, 7, "1234") + Data(3, 7, "1234") + Data(3, 7, "1234") + Data(3, 7, "1234"));
  StreamState* stream = streams_->NextReady();
  std::vector<Bytes> messages;
  streams_->TakeMessages(stream, 3, &messages);
  streams_->Consumed(stream, 8);
  EXPECT_FALSE(streams_->HasOutput());
  streams_->Consumed(stream, 4);
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =12"));
  streams_->Delivered(stream);
  EXPECT_FALSE(streams_->HasOutput());
}

TEST_F(StreamsTest, WhatIsConsumedLaterIsReportedThen) {
  Open();
  Deliver(*streams_, Data(3, 7, "1234"));
  StreamState* stream = streams_->NextReady();
  std::vector<Bytes> messages;
  streams_->TakeMessages(stream, 3, &messages);
  streams_->Delivered(stream);
  EXPECT_FALSE(streams_->HasOutput());
  streams_->Consumed(stream, 4);
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =4"));
}

TEST_F(StreamsTest, NoFeedbackForAPeerThatDoesNotWantIt) {
  StreamState* stream = Opening();
  Connect(stream, /*wants_feedback=*/false);
  streams_->Release(stream);
  Deliver(*streams_, Data(3, 7, "1234"));
  EXPECT_THAT(HandOut(), ElementsAre("3:1234"));
  EXPECT_FALSE(streams_->HasOutput());
}

TEST_F(StreamsTest, OurCloseIsTheLastWordAfterFeedback) {
  StreamState* stream = Open();
  Deliver(*streams_, Data(3, 7, "1234"));
  HandOut();
  streams_->Close(stream);
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =4", "CLOSE 7<3"));
}

TEST_F(StreamsTest, FeedbackIsWithheldWhileTooMuchWaits) {
  options_.received_bytes_max = 10;
  Start();
  Open();
  Open();
  Deliver(*streams_, Data(3, 7, "12") + Data(4, 8, std::string(15, 'a')));
  StreamState* first = streams_->NextReady();
  std::vector<Bytes> messages;
  streams_->TakeMessages(first, 1, &messages);
  streams_->Consumed(first, 2);
  streams_->Delivered(first);
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_FALSE(streams_->WaitsForBudget()) << "nothing but consuming helps";
  EXPECT_THAT(HandOut(), ElementsAre("4:" + std::string(15, 'a')));
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =2", "FEEDBACK 8<4 =15"));
}

TEST_F(StreamsTest, FeedbackIsWithheldWhileTooMuchWaitsInTheProcess) {
  budget_.received_bytes_max = 10;
  Start();
  Open();
  budget_.received_bytes += 100;
  Deliver(*streams_, Data(3, 7, "12"));
  HandOut();
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_TRUE(streams_->WaitsForBudget());
  budget_.received_bytes -= 100;
  streams_->Tick();
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =2"));
  EXPECT_FALSE(streams_->WaitsForBudget());
}

TEST_F(StreamsTest, WhatNobodyReadsIsDroppedAndCounted) {
  StreamState* stream = Open(10, /*readable=*/false);
  Deliver(*streams_, Data(3, 7, "12", true) + Data(3, 7, "345"));
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =5"));
  EXPECT_EQ(streams_->received_bytes(), 0u);
  EXPECT_THAT(HandOut(), IsEmpty());
  EXPECT_EQ(Write(stream, "x"), Written::kWritten);
}

// --- Turns ---

TEST_F(StreamsTest, LongMessagesAreCutAndTheLastFrameSaysSo) {
  options_.segment_bytes = 8;
  options_.copy_bytes_max = 64;
  Start();
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, std::string(20, 'a')), Written::kWritten);
  EXPECT_EQ(Write(stream, std::string(8, 'b')), Written::kWritten);
  EXPECT_EQ(Write(stream, std::string(65, 'c') + "d"), Written::kWritten);
  const std::string c = "DATA 7<3 +cccccccc";
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 +aaaaaaaa", "DATA 7<3 +aaaaaaaa", "DATA 7<3 aaaa",
                                  "DATA 7<3 bbbbbbbb", c, c, c, c, c, c, c, c, "DATA 7<3 cd"));
}

TEST_F(StreamsTest, StreamsTakeTurns) {
  options_.segment_bytes = options_.turn_bytes = 100;
  options_.copy_bytes_max = 10;
  Start();
  StreamState* bulk = Open();
  StreamState* other = Open();
  StreamState* small = Open();
  EXPECT_EQ(Write(bulk, std::string(250, 'a')), Written::kWritten);
  EXPECT_EQ(Write(other, std::string(150, 'b')), Written::kWritten);
  EXPECT_EQ(Write(small, "c"), Written::kWritten);
  EXPECT_EQ(Write(small, "d"), Written::kWritten);
  streams_->Close(small);
  EXPECT_THAT(Sent(),
              ElementsAre("DATA 7<3 +" + std::string(100, 'a'), "DATA 8<4 +" + std::string(100, 'b'),
                          "DATA 9<5 c", "DATA 9<5 d", "CLOSE 9<5", "DATA 7<3 +" + std::string(100, 'a'),
                          "DATA 8<4 " + std::string(50, 'b'), "DATA 7<3 " + std::string(50, 'a')));
}

TEST_F(StreamsTest, PullGivesAboutWhatIsAskedFor) {
  options_.segment_bytes = options_.turn_bytes = 1000;
  Start();
  StreamState* bulk = Open();
  EXPECT_EQ(Write(bulk, std::string(100'000, 'a')), Written::kWritten);
  Output out;
  EXPECT_TRUE(streams_->Pull(&out, 5000));
  EXPECT_GE(out.bytes, 5000u);
  EXPECT_LE(out.bytes, 6100u);
  EXPECT_GT(streams_->unsent_bytes(), 90'000u);
  out.Clear();
  while (streams_->Pull(&out, 5000)) {
  }
  EXPECT_EQ(streams_->unsent_bytes(), 0u);
  EXPECT_FALSE(streams_->Pull(&out, 5000));
}

TEST_F(StreamsTest, CallsLeaveBeforeWhatIsWrittenLater) {
  StreamState* stream = Open();
  const std::string big =
      std::string("PRPC") + std::string("\0\0\x20\4\0\0\0\4", 8) + "meta" + std::string(8192, 'x');
  streams_->SendFrame(Bytes::Copy(big));
  EXPECT_EQ(Write(stream, "data"), Written::kWritten);
  streams_->SendRst(99);
  EXPECT_THAT(Sent(), ElementsAre("CALL meta" + std::string(8192, 'x'), "RST 99", "DATA 7<3 data"));
}

TEST_F(StreamsTest, MessagesOfManyPiecesAreCutRight) {
  options_.segment_bytes = 1000;
  options_.copy_bytes_max = 100;
  Start();
  StreamState* stream = Open();
  Bytes message;
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string piece(static_cast<size_t>(i * 13 % 97), static_cast<char>('a' + i % 26));
    message.Append(Bytes::Copy(piece));
    expected += piece;
  }
  EXPECT_EQ(streams_->Write(stream, message), Written::kWritten);
  std::string sent;
  for (const std::string& word : Sent()) sent += word.substr(word.find('+') == 9 ? 10 : 9);
  EXPECT_EQ(sent, expected);
}

TEST_F(StreamsTest, AStreamThatNobodyReadsTakesNoWrites) {
  StreamState* stream = Opening();
  streams_->Connect(stream, {.remote_id = 7, .readable = false, .wants_feedback = true});
  EXPECT_EQ(Write(stream, "x"), Written::kNoReader);
  EXPECT_EQ(stream->produced_bytes, 0u);
}

TEST_F(StreamsTest, MessagesThatWereHandedOutAndNotReportedAreGivenBackByForget) {
  Open();
  Deliver(*streams_, Data(3, 7, "1234") + Data(3, 7, "half", true));
  StreamState* stream = streams_->NextReady();
  std::vector<Bytes> messages;
  streams_->TakeMessages(stream, 1, &messages);
  EXPECT_EQ(streams_->received_bytes(), 8u);
  streams_->Fail(stream, 5, "x");
  EXPECT_EQ(streams_->received_bytes(), 4u);
  streams_->Forget(stream);
  EXPECT_EQ(streams_->received_bytes(), 0u);
}

}  // namespace
}  // namespace sluice::wire::brpc
