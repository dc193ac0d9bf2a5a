// The first program on the simulated disk: a journal of checksummed records that may lose nothing it synced.
#include <gtest/gtest.h>

#include <cstring>

#include "base/crc32c.h"
#include "sim/sim_files.h"

namespace sluice::sim {
namespace {

constexpr char kPath[] = "/data/journal";
constexpr size_t kRecordBytesMax = 4096;

// Records are {length, checksum, payload}; the first that does not fit or match is the end.
class Journal {
 public:
  static absl::StatusOr<Journal> Open(env::Files& files) {
    RETURN_IF_ERROR(files.MakeDirs("/data"));
    Journal journal;
    ASSIGN_OR_RETURN(journal.file_, files.Open(kPath, {.create = true}));
    RETURN_IF_ERROR(files.SyncDir("/data"));
    ASSIGN_OR_RETURN(const std::string content, env::ReadWholeFile(files, kPath, 16 << 20));
    uint32_t header[2];
    while (content.size() - journal.end_ >= sizeof(header)) {
      std::memcpy(header, content.data() + journal.end_, sizeof(header));
      const std::string_view rest = std::string_view(content).substr(journal.end_ + sizeof(header));
      if (header[0] == 0 || header[0] > rest.size() || Crc32c(rest.substr(0, header[0])) != header[1]) break;
      journal.records_.emplace_back(rest.substr(0, header[0]));
      journal.end_ += sizeof(header) + header[0];
    }
    // A torn tail must not look like a record to a later reader.
    RETURN_IF_ERROR(journal.file_->Truncate(journal.end_));
    RETURN_IF_ERROR(journal.file_->Sync());
    return journal;
  }

  absl::Status Append(const std::string& payload) {
    const uint32_t header[2] = {static_cast<uint32_t>(payload.size()), Crc32c(payload)};
    std::string record(reinterpret_cast<const char*>(header), sizeof(header));
    record += payload;
    RETURN_IF_ERROR(file_->WriteAt(end_, Bytes::Copy(record)));
    end_ += record.size();
    return absl::OkStatus();
  }
  absl::Status Sync() { return file_->Sync(); }
  const std::vector<std::string>& records() const { return records_; }

 private:
  std::unique_ptr<env::File> file_;
  uint64_t end_ = 0;
  std::vector<std::string> records_;
};

struct Outcome {
  size_t lost = 0;      // synced records that a crash took
  size_t invented = 0;  // records that were never appended
  size_t crashes = 0;
};

// Appends and syncs under power losses, all from `seed`.
Outcome RunJournal(uint64_t seed, bool lose_syncs) {
  SeededRandom random(seed);
  SimFiles disk;
  disk.LoseSyncs(lose_syncs);
  std::vector<std::string> appended;
  size_t synced = 0;
  Outcome outcome;
  for (int life = 0; life < 8; ++life) {
    disk.HaltAt(disk.operations() + random.Between(1, 40));
    auto journal = Journal::Open(disk);
    if (journal.ok()) {
      const auto& found = journal->records();
      for (size_t i = 0; i < found.size(); ++i)
        outcome.invented += i >= appended.size() || found[i] != appended[i];
      if (found.size() < synced) outcome.lost += synced - found.size();
      appended = found;
      synced = found.size();
    }
    while (journal.ok() && !disk.halted()) {
      appended.emplace_back(random.Between(1, kRecordBytesMax), static_cast<char>(random.Next64()));
      const bool done = journal->Append(appended.back()).ok();
      if (done && random.Chance(0.3) && journal->Sync().ok()) synced = appended.size();
    }
    disk.Crash(random.Next64());
    ++outcome.crashes;
  }
  return outcome;
}

TEST(Journal, F01_F02_KeepsEverySyncedRecordUnderCrashes) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Outcome outcome = RunJournal(seed, false);
    EXPECT_EQ(outcome.lost, 0u) << "seed " << seed;
    EXPECT_EQ(outcome.invented, 0u) << "seed " << seed;
    EXPECT_EQ(outcome.crashes, 8u);
  }
}

TEST(Journal, F35_DiskThatLosesSyncsIsCaught) {
  size_t lost = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) lost += RunJournal(seed, true).lost;
  EXPECT_GT(lost, 0u) << "the test above cannot fail";
}

}  // namespace
}  // namespace sluice::sim
