#include "sim/oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::sim {
namespace {

Oracle::Reader Holding(Oracle::Content content) {
  return [content](const std::string&) -> absl::StatusOr<Oracle::Content> { return content; };
}
bool Allows(const Oracle& oracle, const Oracle::Content& content) {
  return oracle.Check({Holding(content)}).ok();
}

TEST(Oracle, AcknowledgedPutMustBeThere) {
  Oracle oracle;
  oracle.Acknowledged(oracle.BeginPut("f", "one"));
  EXPECT_TRUE(Allows(oracle, "one"));
  EXPECT_FALSE(Allows(oracle, std::nullopt));
  EXPECT_FALSE(Allows(oracle, "two"));
  EXPECT_THAT(std::string(oracle.Check({Holding("two")}).message()), testing::HasSubstr("\"one\""));
}

TEST(Oracle, UnknownPutMayOrMayNotBeThereAndRefusedMayNot) {
  Oracle oracle;
  oracle.Unknown(oracle.BeginPut("f", "maybe"));
  oracle.Refused(oracle.BeginPut("f", "no"));
  oracle.BeginPut("f", "unanswered");
  EXPECT_TRUE(Allows(oracle, "maybe") && Allows(oracle, "unanswered") && Allows(oracle, std::nullopt));
  EXPECT_FALSE(Allows(oracle, "no"));
  EXPECT_EQ(oracle.unknown(), 2u);
}

TEST(Oracle, ServersMustAgreeEvenOnTheUnknown) {
  Oracle oracle;
  oracle.Unknown(oracle.BeginPut("f", "maybe"));
  EXPECT_TRUE(oracle.Check({Holding("maybe"), Holding("maybe")}).ok());
  EXPECT_TRUE(absl::IsDataLoss(oracle.Check({Holding("maybe"), Holding(std::nullopt)})));
}

TEST(Oracle, LaterWriteHidesOneThatWasOver) {
  Oracle oracle;
  oracle.Acknowledged(oracle.BeginPut("f", "one"));
  oracle.Acknowledged(oracle.BeginPut("f", "two"));
  EXPECT_FALSE(Allows(oracle, "one"));
  EXPECT_TRUE(Allows(oracle, "two"));
  oracle.Acknowledged(oracle.BeginRemove("f"));
  EXPECT_TRUE(Allows(oracle, std::nullopt));
  EXPECT_FALSE(Allows(oracle, "two"));
}

TEST(Oracle, OverlappingWritesMayEndInEitherOrder) {
  Oracle oracle;
  const auto one = oracle.BeginPut("f", "one");
  const auto two = oracle.BeginPut("f", "two");
  const auto late = oracle.BeginPut("f", "late");
  oracle.Acknowledged(two);
  oracle.Acknowledged(one);
  oracle.Unknown(late);
  EXPECT_TRUE(Allows(oracle, "one") && Allows(oracle, "two") && Allows(oracle, "late"));
  EXPECT_FALSE(Allows(oracle, std::nullopt));
  oracle.Acknowledged(oracle.BeginPut("f", "last"));
  EXPECT_FALSE(Allows(oracle, "one"));
  EXPECT_TRUE(Allows(oracle, "last") && Allows(oracle, "late")) << "an unknown write may still take effect";
}

TEST(Oracle, ReadMaySeeWhatOverlapsItOnly) {
  Oracle oracle;
  oracle.Acknowledged(oracle.BeginPut("f", "one"));
  const auto during = oracle.BeginRead("f");
  const auto put = oracle.BeginPut("f", "two");
  const auto other = oracle.BeginRead("f");
  oracle.Acknowledged(put);
  EXPECT_TRUE(oracle.EndRead(during, "two").ok());
  EXPECT_TRUE(oracle.EndRead(other, "one").ok());
  EXPECT_TRUE(absl::IsDataLoss(oracle.EndRead(oracle.BeginRead("f"), "one")));
  const auto early = oracle.BeginRead("g");
  EXPECT_TRUE(absl::IsDataLoss(oracle.EndRead(early, "from the future")));
}

TEST(Oracle, CountersLieBetweenAcknowledgedAndBegun) {
  Oracle oracle;
  for (int i = 0; i < 3; ++i) oracle.Acknowledged(oracle.BeginIncrement("c"));
  oracle.Unknown(oracle.BeginIncrement("c", 2));
  oracle.Refused(oracle.BeginIncrement("c", 10));
  const auto says = [](int64_t value) {
    return [value](const std::string&) -> absl::StatusOr<int64_t> { return value; };
  };
  for (const int64_t fine : {3, 4, 5})
    EXPECT_TRUE(oracle.CheckCounters({says(fine), says(fine)}).ok()) << fine;
  for (const int64_t wrong : {2, 6})
    EXPECT_TRUE(absl::IsDataLoss(oracle.CheckCounters({says(wrong)}))) << wrong;
  EXPECT_TRUE(absl::IsDataLoss(oracle.CheckCounters({says(3), says(5)})));
}

TEST(Oracle, CallsAreExecutedOnceWithOneReply) {
  Oracle oracle;
  EXPECT_TRUE(oracle.Executed("c", 1, "a/1", "1").ok());
  EXPECT_TRUE(oracle.Executed("c", 1, "a/1", "1").ok()) << "at another server, or again after a crash";
  EXPECT_TRUE(oracle.Executed("d", 2, "a/1", "1").ok()) << "another group";
  EXPECT_TRUE(oracle.Answered("c", "a/1", "1").ok());
  EXPECT_TRUE(absl::IsDataLoss(oracle.Executed("c", 1, "a/2", "1"))) << "another call at the same index";
  EXPECT_TRUE(absl::IsDataLoss(oracle.Executed("c", 1, "a/1", "2"))) << "another reply";
  EXPECT_TRUE(absl::IsDataLoss(oracle.Executed("c", 3, "a/1", "2"))) << "twice";
  EXPECT_TRUE(absl::IsDataLoss(oracle.Answered("c", "a/1", "2")));
  EXPECT_TRUE(absl::IsDataLoss(oracle.Answered("c", "a/9", "1"))) << "never executed";
}

TEST(Oracle, HistoryTellsWhatClientsSaw) {
  Oracle oracle;
  oracle.Acknowledged(oracle.BeginPut("f", "one"));
  oracle.BeginRemove("f");
  const auto read = oracle.BeginRead("f");
  ASSERT_TRUE(oracle.EndRead(read, "one").ok());
  (void)oracle.BeginRead("f");
  oracle.Acknowledged(oracle.BeginIncrement("c"), "1");
  oracle.EndCounterRead(oracle.BeginCounterRead("c"), 1);
  EXPECT_EQ(oracle.History(),
            R"({"call":0,"key":"f","op":"put","arg":"one","invoke":1,"return":2,"outcome":"ok"}
{"call":1,"key":"f","op":"rm","invoke":3,"outcome":"unknown"}
{"call":2,"key":"f","op":"get","invoke":4,"return":5,"outcome":"ok","reply":"one"}
{"call":4,"key":"c","op":"add","arg":"1","invoke":7,"return":8,"outcome":"ok","reply":"1"}
{"call":5,"key":"c","op":"count","invoke":9,"return":10,"outcome":"ok","reply":"1"}
)");
}

TEST(Oracle, ReaderThatFailsFailsTheCheck) {
  Oracle oracle;
  oracle.Unknown(oracle.BeginPut("f", "one"));
  const auto fails = [](const std::string&) -> absl::StatusOr<Oracle::Content> {
    return absl::UnavailableError("x");
  };
  EXPECT_TRUE(absl::IsUnavailable(oracle.Check({fails})));
}

}  // namespace
}  // namespace sluice::sim
