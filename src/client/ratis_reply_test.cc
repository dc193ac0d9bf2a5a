#include "client/ratis_reply.h"

#include <gtest/gtest.h>

#include "wire/ratis.h"

namespace sluice::client {
namespace {

using wire::ClientReply;

const wire::RpcRequest kRequest;
const PeerId kSelf{"n0"};

TEST(RatisReply, SuccessIsAnAnswer) {
  const ClientReply reply = wire::SuccessReply(kRequest, kSelf, Bytes::Copy("x"), Index{3});
  EXPECT_EQ(NextAfter(reply), Next::kAnswer);
  EXPECT_TRUE(StatusOf(reply).ok());
}

TEST(RatisReply, WhatWasNotExecutedIsTriedAgain) {
  EXPECT_EQ(NextAfter(wire::NotLeaderReply(kRequest, kSelf, nullptr, {})), Next::kOtherServer);
  EXPECT_EQ(NextAfter(wire::LeaderNotReadyReply(kRequest, kSelf)), Next::kSameServer);
  EXPECT_EQ(NextAfter(wire::AlreadyClosedReply(kRequest, kSelf, "closed")), Next::kOtherServer);
  for (const auto kind :
       {wire::Throwable::kLeaderSteppingDown, wire::Throwable::kRead, wire::Throwable::kReadIndex}) {
    EXPECT_EQ(NextAfter(wire::ThrowableReply(kRequest, kSelf, kind, "later")), Next::kOtherServer);
  }
}

// When nobody else can be asked, the caller gets this.
TEST(RatisReply, WhatWasNotExecutedIsNoSuccess) {
  for (const ClientReply& reply :
       {wire::NotLeaderReply(kRequest, kSelf, nullptr, {}), wire::LeaderNotReadyReply(kRequest, kSelf),
        wire::AlreadyClosedReply(kRequest, kSelf, "closed"),
        wire::ThrowableReply(kRequest, kSelf, wire::Throwable::kLeaderSteppingDown, "later"),
        wire::ThrowableReply(kRequest, kSelf, wire::Throwable::kTransferLeadership, "later"),
        wire::ThrowableReply(kRequest, kSelf, wire::Throwable::kRead, "later"),
        wire::ThrowableReply(kRequest, kSelf, wire::Throwable::kReadIndex, "later")}) {
    EXPECT_TRUE(absl::IsUnavailable(StatusOf(reply))) << StatusOf(reply);
  }
}

TEST(RatisReply, WhatAGroupDecidedIsFinal) {
  const ClientReply late = wire::NotReplicatedReply(kRequest, kSelf, ratis::common::ALL, Index{9});
  EXPECT_EQ(NextAfter(late), Next::kAnswer);
  EXPECT_TRUE(absl::IsDeadlineExceeded(StatusOf(late)));
  const ClientReply refused =
      wire::StateMachineErrorReply(kRequest, kSelf, wire::kIllegalArgumentException, "Invalid Command: X");
  EXPECT_EQ(NextAfter(refused), Next::kAnswer);
  EXPECT_EQ(StatusOf(refused), absl::InvalidArgumentError("Invalid Command: X"));
  EXPECT_EQ(NextAfter(wire::PlainFailureReply(kRequest, kSelf)), Next::kAnswer);
  EXPECT_TRUE(absl::IsUnknown(StatusOf(wire::PlainFailureReply(kRequest, kSelf))));
}

TEST(RatisReply, CodesOfStateMachinesComeThrough) {
  const auto status_of = [](std::string_view java_class, std::string_view text) {
    return StatusOf(wire::StateMachineErrorReply(kRequest, kSelf, java_class, text));
  };
  EXPECT_EQ(status_of(wire::kIoException, "PERMISSION_DENIED: not yours"),
            absl::PermissionDeniedError("not yours"));
  EXPECT_EQ(status_of(wire::kIllegalStateException, "later"), absl::FailedPreconditionError("later"));
  EXPECT_EQ(status_of(wire::kAlreadyExistsException, "seat"), absl::AlreadyExistsError("seat"));
  EXPECT_EQ(status_of(wire::kStreamException, "part 3"), absl::AbortedError("part 3"));
  // Classes of somebody's Java state machine: named, so that they can be told apart.
  EXPECT_EQ(status_of("com.example.SoldOut", "none left"),
            absl::FailedPreconditionError("SoldOut: none left"));
}

TEST(RatisReply, TheEndOfACallIsFinalOnlyIfARequestWasJudged) {
  EXPECT_EQ(NextAfterCall(""), Next::kOtherServer);  // a broken connection
  for (const auto java_class :
       {wire::kResourceUnavailableException, wire::kServerNotReadyException, wire::kTimeoutIoException}) {
    EXPECT_EQ(NextAfterCall(java_class), Next::kSameServer) << java_class;
  }
  for (const std::string_view java_class :
       {wire::kIoException, wire::kAlreadyClosedException,
        std::string_view("org.apache.ratis.protocol.exceptions.LeaderNotReadyException"),
        std::string_view("org.apache.ratis.protocol.exceptions.NotLeaderException")}) {
    EXPECT_EQ(NextAfterCall(java_class), Next::kOtherServer) << java_class;
  }
  for (const auto java_class :
       {wire::kGroupMismatchException, wire::kIllegalArgumentException, wire::kIllegalStateException,
        wire::kUnsupportedOperationException, wire::kAlreadyExistsException, wire::kStreamException}) {
    EXPECT_EQ(NextAfterCall(java_class), Next::kAnswer) << java_class;
    EXPECT_FALSE(StatusOfCall(java_class, absl::InternalError("why")).ok());
  }
  EXPECT_EQ(StatusOfCall(wire::kGroupMismatchException, absl::InternalError("n0: group-1 not found.")),
            absl::NotFoundError("n0: group-1 not found."));
}

}  // namespace
}  // namespace sluice::client
