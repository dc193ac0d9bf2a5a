// Life of streams, opening, strangers, messages.
#include "wire/brpc/streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <limits>

#include "wire/brpc/streams_fixture.h"

namespace sluice::wire::brpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Written = Streams::Written;
using Phase = StreamState::Phase;

// --- Life ---

TEST_F(StreamsTest, IdsGrowAndAreNotUsedAgain) {
  options_.first_id = -2;
  Start();
  StreamState* first = Opening();
  StreamState* second = Opening();
  EXPECT_EQ(first->local_id, -2);
  EXPECT_EQ(second->local_id, 0) << "-1 means no stream";
  streams_->Close(second);
  EXPECT_EQ(Opening()->local_id, 1);
}

TEST_F(StreamsTest, F64_TooManyStreamsAreRefused) {
  options_.streams_max = 2;
  Start();
  StreamState* first = Opening();
  Opening();
  StreamState* third = NewState();
  EXPECT_FALSE(streams_->Add(third));
  streams_->Close(first);
  EXPECT_FALSE(streams_->Add(third)) << "its end is not handed out yet";
  streams_->Forget(first);
  EXPECT_TRUE(streams_->Add(third));
}

TEST_F(StreamsTest, IdsEndBeforeTheyOverflow) {
  options_.first_id = std::numeric_limits<int64_t>::max() - 1;
  Start();
  EXPECT_TRUE(streams_->Add(NewState()));
  EXPECT_FALSE(streams_->Add(NewState()));
}

TEST_F(StreamsTest, F64_AnIdleStreamIsSmall) { EXPECT_LE(sizeof(StreamState), 350u); }

TEST_F(StreamsTest, CloseIsSentOnceAndTheAnswerIsAnsweredWithRst) {
  StreamState* stream = Open();
  streams_->Close(stream);
  streams_->Close(stream);
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 7<3"));
  EXPECT_EQ(Write(stream, "late"), Written::kClosed);
  Deliver(*streams_, Close(3, 7));
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
  EXPECT_THAT(HandOut(), ElementsAre("3:end 0"));
}

TEST_F(StreamsTest, CloseOfThePeerIsAnsweredAtOnceAndEndsBehindTheMessages) {
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "never read"), Written::kWritten);
  Deliver(*streams_, Data(3, 7, "one") + Data(3, 7, "two") + Data(3, 7, "half", true) + Close(3, 7));
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 7<3"));
  EXPECT_THAT(HandOut(1), ElementsAre("3:one", "3:two", "3:end 0"));
  EXPECT_THAT(Sent(), IsEmpty()) << "a closed stream reports nothing";
}

TEST_F(StreamsTest, CloseWaitsBehindWhatWasWritten) {
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "one"), Written::kWritten);
  EXPECT_EQ(streams_->Write(stream, Bytes::Copy(std::string(5000, 'x'))), Written::kWritten);
  streams_->Close(stream);
  streams_->Forget(stream);
  states_.clear();
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 one", "DATA 7<3 " + std::string(5000, 'x'), "CLOSE 7<3"));
}

TEST_F(StreamsTest, NoRstOvertakesWhatWasWrittenBeforeClose) {
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "one"), Written::kWritten);
  streams_->Close(stream);
  Deliver(*streams_, Data(3, 7, "for nobody") + Data(3, 8, "of nobody"));
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 one", "CLOSE 7<3"));
  Deliver(*streams_, Data(3, 7, "for nobody"));
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
}

TEST_F(StreamsTest, WhatThePeerWillNotReadIsNotSentAfterItsClose) {
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "one"), Written::kWritten);
  streams_->Close(stream);
  Deliver(*streams_, Close(3, 7));
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
}

TEST_F(StreamsTest, RstEndsAStreamAndIsAnsweredWithClose) {
  StreamState* stream = Open();
  Deliver(*streams_, Data(3, 7, "one") + Rst(3));
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 7<3"));
  EXPECT_THAT(HandOut(), ElementsAre("3:one", "3:end 104"));
  EXPECT_EQ(stream->end_text, "Received RST frame");
}

TEST_F(StreamsTest, FailSendsRstAndDropsWhatWasWritten) {
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "one"), Written::kWritten);
  streams_->Fail(stream, 5, "broken");
  streams_->Fail(stream, 6, "again");
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
  EXPECT_THAT(HandOut(), ElementsAre("3:end 5"));
  EXPECT_EQ(stream->end_text, "broken");
}

TEST_F(StreamsTest, ConnectionLostEndsAllBehindTheirMessages) {
  StreamState* first = Open();
  StreamState* second = Open();
  Deliver(*streams_, Data(3, 7, "one") + Data(4, 8, "half", true));
  EXPECT_EQ(Write(first, "unsent"), Written::kWritten);
  streams_->ConnectionLost(1014, "Got EOF");
  EXPECT_THAT(HandOut(), testing::UnorderedElementsAre("3:one", "3:end 1014", "4:end 1014"));
  EXPECT_EQ(Write(second, "late"), Written::kClosed);
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_FALSE(streams_->Add(NewState()));
  streams_->SendFrame(Bytes::Copy("x"));
  streams_->SendRst(1);
  EXPECT_FALSE(streams_->HasOutput());
}

TEST_F(StreamsTest, AStreamThatEndsWhileItIsHandedOutIsReadyOnceMore) {
  Open();
  Deliver(*streams_, Data(3, 7, "one"));
  StreamState* stream = streams_->NextReady();
  std::vector<Bytes> messages;
  EXPECT_FALSE(streams_->TakeMessages(stream, 1, &messages));
  Deliver(*streams_, Close(3, 7));
  EXPECT_EQ(streams_->NextReady(), nullptr);
  streams_->Delivered(stream);
  ASSERT_EQ(streams_->NextReady(), stream);
  EXPECT_TRUE(streams_->TakeMessages(stream, 1, &messages));
  streams_->Delivered(stream);
  EXPECT_EQ(streams_->NextReady(), nullptr);
}

// --- Opening ---

TEST_F(StreamsTest, TheFirstMessageOfAStreamThatOpensHereIsTheAnswer) {
  StreamState* stream = NewState();
  stream->opens_here = true;
  EXPECT_TRUE(streams_->Add(stream));
  EXPECT_FALSE(Deliver(*streams_, Data(3, 7, "ans", true)));
  const auto answer = Deliver(*streams_, Data(3, 7, "wer"));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->stream, stream);
  EXPECT_EQ(answer->from, 7);
  EXPECT_EQ(answer->frame.ToString(), "answer");
  EXPECT_EQ(streams_->received_bytes(), 0u);
  EXPECT_FALSE(Deliver(*streams_, Data(3, 7, "data")));
  Connect(stream);
  EXPECT_THAT(HandOut(), IsEmpty()) << "not before the call is over";
  streams_->Release(stream);
  EXPECT_THAT(HandOut(), ElementsAre("3:data"));
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =4"));
}

TEST_F(StreamsTest, AnAnswerWithoutASourceIsTaken) {
  StreamState* stream = NewState();
  stream->opens_here = true;
  EXPECT_TRUE(streams_->Add(stream));
  const auto answer = Deliver(*streams_, Data(3, {}, "answer"));
  ASSERT_TRUE(answer);
  EXPECT_FALSE(answer->from);
}

TEST_F(StreamsTest, DataForAnExtraStreamWaitsForTheAnswer) {
  StreamState* extra = Opening();
  streams_->Release(extra);
  EXPECT_FALSE(Deliver(*streams_, Data(3, 7, "early")));
  EXPECT_THAT(HandOut(), IsEmpty());
  EXPECT_FALSE(streams_->HasOutput());
  Connect(extra);
  EXPECT_THAT(HandOut(), ElementsAre("3:early"));
  EXPECT_THAT(Sent(), ElementsAre("FEEDBACK 7<3 =5"));
}

TEST_F(StreamsTest, WhatIsWrittenEarlyLeavesAfterTheAnswerInOrder) {
  StreamState* stream = Opening(10);
  EXPECT_EQ(Write(stream, "12345"), Written::kWritten);
  EXPECT_EQ(Write(stream, "67890"), Written::kWritten);
  EXPECT_EQ(Write(stream, "more"), Written::kFull) << "counted against the window";
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_GT(streams_->unsent_bytes(), 0u);
  streams_->SendAnswer(7, 3, Bytes::Copy("answer"));
  Connect(stream);
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 answer", "DATA 7<3 12345", "DATA 7<3 67890"));
  Deliver(*streams_, Feedback(3, 7, 5));
  EXPECT_EQ(streams_->NextWritable(), stream);
}

TEST_F(StreamsTest, WhatIsWrittenBeforeAddIsKeptToo) {
  StreamState* stream = NewState();
  EXPECT_EQ(Write(stream, "first"), Written::kWritten);
  EXPECT_TRUE(streams_->Add(stream));
  Connect(stream);
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 first"));
  StreamState* never = NewState();
  EXPECT_EQ(Write(never, "first"), Written::kWritten);
}

TEST_F(StreamsTest, EarlyDataIsDroppedWhenTheOpeningFailsOrNobodyReads) {
  StreamState* stream = Opening();
  EXPECT_EQ(Write(stream, "one"), Written::kWritten);
  streams_->Fail(stream, 1008, "timeout");
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_EQ(streams_->unsent_bytes(), 0u);
  StreamState* unread = Opening();
  EXPECT_EQ(Write(unread, "one"), Written::kWritten);
  streams_->Connect(unread, {.remote_id = 9, .readable = false, .wants_feedback = true});
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_EQ(Write(unread, "two"), Written::kNoReader);
}

TEST_F(StreamsTest, CloseOrRstBeforeTheAnswerFailsTheCallAndSaysNothing) {
  StreamState* stream = NewState();
  stream->opens_here = true;
  EXPECT_TRUE(streams_->Add(stream));
  StreamState* extra = Opening();
  Deliver(*streams_, Data(3, 7, "hal", true) + Data(4, 8, "data") + Close(3, 7) + Rst(4));
  EXPECT_EQ(streams_->NextUnanswered(), stream);
  EXPECT_EQ(streams_->NextUnanswered(), extra);
  EXPECT_EQ(streams_->NextUnanswered(), nullptr);
  EXPECT_EQ(stream->end_code, 1003);
  EXPECT_EQ(stream->end_text, "stream 3 was closed before the call was answered");
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_THAT(HandOut(), IsEmpty());
  streams_->Release(stream);
  streams_->Release(extra);
  EXPECT_THAT(HandOut(), ElementsAre("3:end 1003", "4:end 1003"));
}

TEST_F(StreamsTest, ACloseDuringTheOpeningTellsAPeerThatAcceptsTooLate) {
  StreamState* closed = Opening();
  StreamState* failed = Opening();
  streams_->Close(closed);
  streams_->Fail(failed, 1008, "timeout");
  EXPECT_FALSE(streams_->HasOutput());
  Connect(closed);
  Connect(failed);
  Connect(failed);
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 7<3", "RST 8"));
}

// brpc clients fail a call when they find CLOSE before they have looked at its answer.
TEST_F(StreamsTest, ACloseRightBehindTheAnswerWaitsForASignOfThePeer) {
  options_.holds_early_close = true;
  Start();
  StreamState* said = Open();
  StreamState* silent = Open();
  StreamState* gone = Open();
  StreamState* late = Opening();
  EXPECT_EQ(Write(silent, "written"), Written::kWritten);
  EXPECT_EQ(Write(gone, "never read"), Written::kWritten);
  for (StreamState* stream : {said, silent, gone, late}) streams_->Close(stream);
  Connect(late);
  Deliver(*streams_, Close(5, 9));
  EXPECT_THAT(Sent(), ElementsAre("RST 9", "DATA 8<4 written"));
  EXPECT_TRUE(streams_->HoldsCloses());
  Deliver(*streams_, Feedback(3, 8, 1));
  EXPECT_THAT(Sent(), IsEmpty()) << "not the peer of that stream";
  Deliver(*streams_, Feedback(3, 7, 1));
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 7<3"));
  EXPECT_TRUE(streams_->AgeCloses());
  EXPECT_THAT(Sent(), IsEmpty()) << "they have not waited yet";
  EXPECT_FALSE(streams_->AgeCloses());
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 8<4", "CLOSE 10<6"));

  StreamState* talks = Open();
  Deliver(*streams_, Data(7, 11, "x"));
  EXPECT_EQ(Write(talks, "y"), Written::kWritten);
  streams_->Close(talks);
  EXPECT_THAT(Sent(), ElementsAre("DATA 11<7 y", "CLOSE 11<7"));
}

// What was written waits longer than the CLOSE behind it is held.
TEST_F(StreamsTest, AHeldCloseStaysBehindTheData) {
  options_.holds_early_close = true;
  Start();
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "written"), Written::kWritten);
  streams_->Close(stream);
  EXPECT_TRUE(streams_->AgeCloses());
  EXPECT_FALSE(streams_->AgeCloses());
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 written", "CLOSE 7<3"));
  StreamState* lost = Open();
  streams_->Close(lost);
  streams_->ConnectionLost(1014, "gone");
  EXPECT_FALSE(streams_->HoldsCloses());
}

TEST_F(StreamsTest, ALateAnswerIsAnsweredWithRst) {
  StreamState* stream = NewState();
  stream->opens_here = true;
  EXPECT_TRUE(streams_->Add(stream));
  streams_->Fail(stream, 1008, "timeout");
  EXPECT_FALSE(Deliver(*streams_, Data(3, 7, "answer")));
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
  Deliver(*streams_, Data(3, kNoStream, "refused"));
  EXPECT_THAT(Sent(), IsEmpty()) << "no stream to reset";
}

TEST_F(StreamsTest, AnAnswerGoesInFramesThatBrpcTakes) {
  const std::string frame((1 << 20) + 5, 'a');
  streams_->SendAnswer(7, 3, Bytes::Copy(frame));
  EXPECT_THAT(Sent(), ElementsAre("DATA 7<3 +" + frame.substr(5), "DATA 7<3 aaaaa"));
}

// --- What does not belong ---

TEST_F(StreamsTest, F73_FramesForUnknownStreams) {
  Deliver(*streams_,
          Data(99, 7, "x") + Close(98, 8) + Frame({.to = 97, .from = 9}) + Data(3, 10, "not given out"));
  EXPECT_THAT(Sent(), ElementsAre("RST 7", "RST 8", "RST 9", "RST 10"));
  Deliver(*streams_, Data(99, {}, "x") + Close(98, {}) + Rst(99) + RstFrom(99, 7) + Feedback(99, 7, 5) +
                         Feedback(99, 7, -5) + Frame({.to = 97}) + Data(99, kNoStream, ""));
  EXPECT_FALSE(streams_->HasOutput());
}

TEST_F(StreamsTest, F73_RstThenData) {
  Open();
  Deliver(*streams_, Rst(3) + Data(3, 7, "late"));
  EXPECT_THAT(HandOut(), ElementsAre("3:end 104"));
  EXPECT_THAT(Sent(), ElementsAre("CLOSE 7<3", "RST 7"));
}

TEST_F(StreamsTest, F73_AnotherConnectionCannotReachAStream) {
  StreamState* stream = Open();
  Streams elsewhere(options_, &budget_);
  Deliver(elsewhere, Data(3, 7, "x") + Rst(3) + Close(3, 7));
  EXPECT_EQ(stream->phase, Phase::kOpen);
  EXPECT_THAT(HandOut(), IsEmpty());
  EXPECT_THAT(Words(SentBy(elsewhere)), ElementsAre("RST 7", "RST 7"));
}

TEST_F(StreamsTest, F73_FramesOfAnotherSourceAreDropped) {
  StreamState* stream = Open();
  EXPECT_EQ(Write(stream, "x"), Written::kWritten);
  Sent();
  Deliver(*streams_, Data(3, 8, "x") + Close(3, 8) + RstFrom(3, 8) + Feedback(3, 8, 99));
  EXPECT_FALSE(streams_->HasOutput());
  EXPECT_EQ(stream->phase, Phase::kOpen);
  Deliver(*streams_, Data(3, {}, "y"));
  EXPECT_THAT(HandOut(), ElementsAre("3:y")) << "no source is no other source";
}

TEST_F(StreamsTest, F73_UnknownFrameTypesAreIgnored) {
  Open();
  Deliver(*streams_, Frame({.to = 3, .from = 7}, "payload"));
  EXPECT_THAT(HandOut(), IsEmpty());
  EXPECT_FALSE(streams_->HasOutput());
}

TEST_F(StreamsTest, F63_AnswersToUnknownStreamsAreLimitedWhenThePeerDoesNotRead) {
  for (int64_t i = 0; i < 300'000; ++i) {
    FrameEvent event;
    event.stream = {.to = 1 << 30, .from = i, .type = FrameType::kClose};
    event.first = event.last = true;
    streams_->Receive(event);
  }
  EXPECT_LT(streams_->unsent_bytes(), 2u << 20);
}

TEST_F(StreamsTest, APieceOfAFrameThatBeganForAnUnknownStreamStaysOut) {
  FrameEvent event;
  event.stream = {.to = 3, .from = 7, .type = FrameType::kData};
  event.first = true;
  event.frame_bytes = 4;
  event.body = Bytes::Copy("ab");
  streams_->Receive(event);
  Open();
  event.first = false;
  event.last = true;
  event.body = Bytes::Copy("cd");
  streams_->Receive(event);
  EXPECT_THAT(HandOut(), IsEmpty());
  EXPECT_EQ(streams_->received_bytes(), 0u);
}

// --- Messages ---

TEST_F(StreamsTest, SegmentsArePutTogetherForEachStream) {
  Open();
  Open();
  Deliver(*streams_, Data(3, 7, "a", true) + Data(4, 8, "x", true) + Data(3, 7, "", true) + Data(3, 7, "b") +
                         Data(4, 8, ""));
  EXPECT_THAT(HandOut(), ElementsAre("3:ab", "4:x"));
}

TEST_F(StreamsTest, F58_AMessageThatIsTooLongFailsItsStream) {
  options_.message_bytes_max = 10;
  Start();
  StreamState* stream = Open();
  StreamState* other = Open();
  Deliver(*streams_, Data(3, 7, "12345678", true) + Data(3, 7, "90"));
  EXPECT_THAT(HandOut(), ElementsAre("3:1234567890"));
  Deliver(*streams_, Data(3, 7, "1234567890", true) + Data(3, 7, "x"));
  EXPECT_EQ(stream->end_code, EMSGSIZE);
  EXPECT_THAT(stream->end_text, HasSubstr("11 bytes"));
  EXPECT_THAT(stream->end_text, HasSubstr("at most 10"));
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
  EXPECT_EQ(other->phase, Phase::kOpen);
}

TEST_F(StreamsTest, F58_AFrameThatIsTooLargeFailsItsStreamAndTellsTheSender) {
  StreamState* stream = Open();
  Deliver(*streams_, Data(3, 7, std::string(100, 'x')) + Feedback(4, 8, 0), {.frame_bytes_max = 50});
  EXPECT_EQ(stream->end_code, EMSGSIZE);
  EXPECT_THAT(stream->end_text, HasSubstr("frame of 100"));
  EXPECT_THAT(Sent(), ElementsAre("RST 7"));
  StreamState* opening = NewState();
  opening->opens_here = true;
  EXPECT_TRUE(streams_->Add(opening));
  Deliver(*streams_, Data(4, 9, std::string(100, 'x')), {.frame_bytes_max = 50});
  EXPECT_EQ(streams_->NextUnanswered(), opening);
  EXPECT_EQ(opening->end_code, EMSGSIZE);
  EXPECT_THAT(Sent(), ElementsAre("RST 9"));
}

TEST_F(StreamsTest, NextReadyIsFair) {
  for (int i = 0; i < 3; ++i) Open();
  for (int i = 0; i < 3; ++i) Deliver(*streams_, Data(3, 7, "a") + Data(4, 8, "b") + Data(5, 9, "c"));
  EXPECT_THAT(HandOut(1), ElementsAre("3:a", "4:b", "5:c", "3:a", "4:b", "5:c", "3:a", "4:b", "5:c"));
}

TEST_F(StreamsTest, F63_UnfinishedMessagesDoNotStopTheConnectionForGood) {
  options_.received_bytes_max = 10;
  Start();
  StreamState* small = Open();
  StreamState* large = Open();
  Deliver(*streams_, Data(3, 7, "123", true) + Data(4, 8, std::string(17, 'a'), true));
  EXPECT_FALSE(streams_->Congested());
  Deliver(*streams_, Data(3, 7, "4", true));
  EXPECT_FALSE(streams_->Congested());
  EXPECT_EQ(small->phase, Phase::kOpen);
  EXPECT_EQ(large->end_code, ENOBUFS);
  EXPECT_THAT(Sent(), ElementsAre("RST 8"));
}

TEST_F(StreamsTest, ReadingStopsWhileAConsumerIsFarBehind) {
  options_.received_bytes_max = 100;
  Start();
  StreamState* stream = Open();
  for (int i = 0; i < 4; ++i) Deliver(*streams_, Data(3, 7, ""));
  EXPECT_TRUE(streams_->Congested()) << "empty messages need memory too";
  EXPECT_EQ(stream->phase, Phase::kOpen);
  StreamState* given = streams_->NextReady();
  std::vector<Bytes> messages;
  streams_->TakeMessages(given, 9, &messages);
  streams_->Delivered(given);
  EXPECT_FALSE(streams_->Congested());
  Deliver(*streams_, Data(3, 7, std::string(201, 'a')));
  ASSERT_EQ(streams_->NextReady(), stream);
  streams_->TakeMessages(stream, 9, &messages);
  EXPECT_TRUE(streams_->Congested());
  streams_->Consumed(stream, 201);
  EXPECT_FALSE(streams_->Congested());
  streams_->Delivered(stream);
}

TEST_F(StreamsTest, F63_DataThatWaitsForAnOpeningDoesNotStopTheConnectionForGood) {
  options_.received_bytes_max = 100;
  Start();
  StreamState* extra = Opening();
  Deliver(*streams_, Data(3, 7, std::string(201, 'a')));
  EXPECT_FALSE(streams_->Congested());
  EXPECT_EQ(streams_->NextUnanswered(), extra);
  EXPECT_EQ(extra->end_code, ENOBUFS);
}

TEST_F(StreamsTest, ManyMessagesMayWait) {
  Open();
  std::string all;
  for (int i = 0; i < 1000; ++i) all += Data(3, 7, std::to_string(i));
  Deliver(*streams_, all);
  const std::vector<std::string> out = HandOut(7);
  ASSERT_EQ(out.size(), 1000u);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], fmt::format("3:{}", i));
}

}  // namespace
}  // namespace sluice::wire::brpc
