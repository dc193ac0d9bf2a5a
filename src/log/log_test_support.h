// One life of a log on a simulated disk, in virtual time, for tests.
//
//   SimLog log(disk);                          // opens it
//   EXPECT_TRUE(log.Append(kGroup, 0, 3).ok());    // entries 0 to 2, and waits
//   log.PowerOff();                            // the disk halts; the process is gone
//
// One thread. The disk must outlive it. What an entry holds follows from its group, term and index, so that
// any of them can be checked.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "log/log.h"
#include "sim/sim_executor.h"
#include "sim/sim_files.h"
#include "sim/world.h"

namespace sluice::log {

inline constexpr char kDir[] = "/data/log";
inline constexpr GroupId kOther{{1}};

inline LogOptions SmallOptions() {
  LogOptions options;
  options.segment_bytes = 64 << 10;
  options.batch_bytes_max = 32 << 10;
  return options;
}

inline std::string PayloadOf(const GroupId& group, TermIndex at, size_t bytes) {
  std::string text = fmt::format("{} {} {}:", group.ToString(), at.term.value, at.index.value);
  for (size_t i = 0; text.size() < bytes; ++i) text.push_back(static_cast<char>(i * 31 + at.term.value));
  text.resize(bytes);
  return text;
}

// Different sizes, some over several blocks.
inline size_t SizeOf(TermIndex at) {
  return at.index.value % 7 == 3 ? 9000 : static_cast<size_t>(40 + at.index.value % 5 * 100);
}

inline raft::Entry EntryAt(const GroupId& group, TermIndex at) {
  return {
      .at = at, .kind = raft::EntryKind::kCommand, .payload = Bytes::Copy(PayloadOf(group, at, SizeOf(at)))};
}

inline std::vector<raft::Entry> EntriesAt(const GroupId& group, int64_t from, int64_t count, uint64_t term) {
  std::vector<raft::Entry> entries;
  for (int64_t i = from; i < from + count; ++i) entries.push_back(EntryAt(group, {Term{term}, Index{i}}));
  return entries;
}

class SimLog {
 public:
  explicit SimLog(sim::SimFiles& disk, LogOptions options = SmallOptions(), uint64_t seed = 1)
      : disk_(disk), world_(seed), executors_(world_, process_), shard_(executors_.NewExecutor("shard")) {
    absl::StatusOr<std::unique_ptr<Log>> opened = Log::Open(disk, executors_, kDir, options);
    status_ = opened.status();
    if (opened.ok()) log_ = *std::move(opened);
  }
  ~SimLog() { Close(); }

  const absl::Status& status() const { return status_; }
  Log& operator*() { return *log_; }
  Log* operator->() { return log_.get(); }
  sim::World& world() { return world_; }
  env::Executor* shard() { return shard_.get(); }
  // A clean end.
  void Close() { log_.reset(); }
  void PowerOff() {
    disk_.Halt();
    process_.Kill();
    log_.reset();
  }

  absl::Status Append(AppendBatch batch) {
    std::optional<absl::Status> result;
    log_->Append(std::move(batch), shard(), [&](absl::Status done) { result = done; });
    world_.RunUntil([&] { return result.has_value(); }, std::chrono::seconds(10));
    return result.value_or(absl::DeadlineExceededError("no answer"));
  }
  absl::Status Append(const GroupId& group, int64_t from, int64_t count, uint64_t term = 1) {
    return Append(
        {.group = group, .hard_state = std::nullopt, .entries = EntriesAt(group, from, count, term)});
  }
  absl::Status Store(const GroupId& group, uint64_t term, const std::string& voted_for) {
    return Append(
        {.group = group, .hard_state = raft::HardState{Term{term}, PeerId{voted_for}}, .entries = {}});
  }
  absl::Status Restart(const GroupId& group, TermIndex at) {
    std::optional<absl::Status> result;
    log_->Restart(group, at, shard(), [&](absl::Status done) { result = done; });
    world_.RunUntil([&] { return result.has_value(); }, std::chrono::seconds(10));
    return result.value_or(absl::DeadlineExceededError("no answer"));
  }
  absl::StatusOr<std::vector<raft::Entry>> Read(const GroupId& group, int64_t from, int64_t end,
                                                uint64_t bytes_max = 1 << 20) {
    std::optional<absl::StatusOr<std::vector<raft::Entry>>> result;
    log_->Read(group, Index{from}, Index{end}, bytes_max, shard(),
               [&](auto done) { result = std::move(done); });
    world_.RunUntil([&] { return result.has_value(); }, std::chrono::seconds(10));
    if (!result) return absl::DeadlineExceededError("no answer");
    return *std::move(result);
  }
  // Lets what runs in the background come to its end.
  void Settle() { world_.RunFor(std::chrono::milliseconds(100)); }

 private:
  sim::SimFiles& disk_;
  sim::World world_;
  sim::Process process_;
  sim::SimExecutors executors_;
  std::unique_ptr<env::Executor> shard_;
  absl::Status status_;
  std::unique_ptr<Log> log_;
};

// Each entry of the group can be read and holds what its term and index say.
inline void ExpectReadable(SimLog& log, const GroupId& group, const GroupState& state) {
  int64_t index = state.compacted.index.value + 1;
  for (const GroupState::Info& info : state.entries) {
    const TermIndex at{info.term, Index{index++}};
    const auto read = log.Read(group, at.index.value, at.index.value + 1);
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->size(), 1u);
    EXPECT_EQ(read->front().at, at);
    EXPECT_EQ(info.bytes, SizeOf(at));
    EXPECT_TRUE(read->front().payload == PayloadOf(group, at, SizeOf(at))) << "entry " << at.index.value;
  }
}

}  // namespace sluice::log
