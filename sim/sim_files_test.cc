#include "sim/sim_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/check.h"

namespace sluice::sim {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::unique_ptr<env::File> Create(env::Files& files, const std::string& path) {
  auto file = files.Open(path, {.create = true});
  SLUICE_CHECK(file.ok()) << file.status();
  return std::move(*file);
}

std::string Content(env::Files& files, const std::string& path) {
  const auto content = env::ReadWholeFile(files, path, 1 << 20);
  return content.ok() ? *content : "error: " + content.status().ToString();
}

TEST(SimFiles, SyncedDataAndNamesSurvive) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("kept")).ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(disk.SyncDir("/").ok());
  ASSERT_TRUE(file->WriteAt(2, Bytes::Copy("lost")).ok());
  EXPECT_EQ(Content(disk, "/f"), "kelost");
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_EQ(Content(disk, "/f"), "kept");
}

TEST(SimFiles, SyncOfTheFileDoesNotKeepItsName) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("data")).ok());
  ASSERT_TRUE(file->Sync().ok());
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_FALSE(*disk.Exists("/f"));
}

TEST(SimFiles, NameWithoutSyncedDataIsAnEmptyFile) {
  SimFiles disk;
  ASSERT_TRUE(Create(disk, "/f")->WriteAt(0, Bytes::Copy("data")).ok());
  ASSERT_TRUE(disk.SyncDir("/").ok());
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_EQ(Content(disk, "/f"), "");
}

TEST(SimFiles, RemovalIsUndoneWithItsContent) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("data")).ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(disk.SyncDir("/").ok());
  ASSERT_TRUE(disk.Remove("/f").ok());
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_EQ(Content(disk, "/f"), "data");
}

TEST(SimFiles, DurableWriteKeepsOnlyItself) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(disk.SyncDir("/").ok());
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy(std::string(4096, 'a'))).ok());
  ASSERT_TRUE(file->WriteDurably(4096, Bytes::Copy(std::string(4096, 'b'))).ok());
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_EQ(Content(disk, "/f"), std::string(4096, '\0') + std::string(4096, 'b'));
}

TEST(SimFiles, TruncateIsUndone) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("0123456789")).ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(disk.SyncDir("/").ok());
  ASSERT_TRUE(file->Truncate(4).ok());
  ASSERT_TRUE(file->WriteAt(6, Bytes::Copy("xy")).ok());
  ASSERT_TRUE(file->Truncate(30).ok());
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_EQ(Content(disk, "/f"), "0123456789");
}

TEST(SimFiles, F02_SeedsKeepCutScatterAndDropAWrite) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(disk.SyncDir("/").ok());
  ASSERT_TRUE(file->WriteAt(100, Bytes::Copy(std::string(2000, 'x'))).ok());
  bool whole = false, absent = false, cut = false, hole = false;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const std::string content = Content(*disk.CrashClone(seed), "/f");
    EXPECT_EQ(content, Content(*disk.CrashClone(seed), "/f")) << "not reproducible from seed " << seed;
    const size_t end = content.find_last_of('x') + 1;
    whole |= content == std::string(100, '\0') + std::string(2000, 'x');
    absent |= content.empty();
    cut |= end != 0 && end % 512 == 0 && content.find('\0', 100) == std::string::npos;
    hole |= end != 0 && content.substr(100, end - 100).find('\0') != std::string::npos;
  }
  EXPECT_TRUE(whole && absent && cut && hole) << whole << absent << cut << hole;
  EXPECT_EQ(file->Size().value(), 2100u) << "clones must leave the disk alone";
}

TEST(SimFiles, F16_RenameBetweenFoldersLeavesEitherBothOrNeither) {
  SimFiles disk;
  ASSERT_TRUE(disk.MakeDirs("/stage").ok() && disk.MakeDirs("/blobs").ok());
  Create(disk, "/stage/f");
  ASSERT_TRUE(disk.SyncDir("/stage").ok());
  ASSERT_TRUE(disk.Rename("/stage/f", "/blobs/f").ok());
  std::set<std::pair<bool, bool>> strict, kept;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto clone = disk.CrashClone(seed);
    strict.insert({*clone->Exists("/stage/f"), *clone->Exists("/blobs/f")});
    const auto kind = disk.CrashClone(seed, {.renames_keep_a_name = true});
    kept.insert({*kind->Exists("/stage/f"), *kind->Exists("/blobs/f")});
  }
  EXPECT_EQ(strict.size(), 4u);
  EXPECT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept.count({false, false}), 0u);
}

TEST(SimFiles, F16_RenameWithinAFolderIsAtomic) {
  SimFiles disk;
  ASSERT_TRUE(env::WriteFileDurably(disk, "/id", Bytes::Copy("old")).ok());
  const uint64_t before = disk.operations();
  ASSERT_TRUE(env::WriteFileDurably(*disk.CrashClone(0), "/id", Bytes::Copy("new")).ok());
  std::set<std::string> seen;
  for (uint64_t step = 1; step <= 7; ++step) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const auto clone = disk.CrashClone(seed);
      clone->HaltAt(step);
      const absl::Status status = env::WriteFileDurably(*clone, "/id", Bytes::Copy("new"));
      EXPECT_EQ(status.ok(), !clone->halted());
      clone->Crash(seed);
      seen.insert(Content(*clone, "/id"));
      if (status.ok()) {
        EXPECT_EQ(Content(*clone, "/id"), "new");
      }
    }
  }
  EXPECT_THAT(seen, ElementsAre("new", "old"));
  EXPECT_EQ(disk.operations(), before);
}

TEST(SimFiles, LostFolderLosesWhatIsInIt) {
  SimFiles disk;
  ASSERT_TRUE(disk.MakeDirs("/a").ok());
  disk.LoseSyncs(true);
  ASSERT_TRUE(disk.MakeDirs("/a/b").ok());
  disk.LoseSyncs(false);
  Create(disk, "/a/b/f");
  ASSERT_TRUE(disk.SyncDir("/a/b").ok());
  disk.Crash(1, CrashPolicy::DropUnsynced());
  EXPECT_THAT(*disk.List("/a"), IsEmpty());
}

TEST(SimFiles, KilledProcessLosesNothingButItsHandles) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  auto lock = disk.LockFile("/lock");
  ASSERT_TRUE(lock.ok() && file->WriteAt(0, Bytes::Copy("data")).ok());
  disk.Halt();
  EXPECT_TRUE(absl::IsInternal(disk.Remove("/f")));
  disk.KillProcess();
  char out[4];
  EXPECT_TRUE(absl::IsInternal(file->WriteAt(0, Bytes::Copy("ghost"))));
  EXPECT_TRUE(absl::IsInternal(file->Sync()));
  EXPECT_TRUE(absl::IsInternal(file->ReadAt(0, out, 4).status()));
  EXPECT_EQ(Content(disk, "/f"), "data");
  const auto next = disk.LockFile("/lock");
  EXPECT_TRUE(next.ok());
  lock->reset();  // of the dead process: must not free the new one's
  EXPECT_TRUE(absl::IsFailedPrecondition(disk.LockFile("/lock").status()));
}

TEST(SimFiles, F10_FailedSyncLosesTheDataForGood) {
  SimFiles disk;
  auto file = Create(disk, "/data.log");
  ASSERT_TRUE(disk.SyncDir("/").ok());
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("lost")).ok());
  disk.FailNextSync(".log");
  EXPECT_TRUE(absl::IsDataLoss(file->Sync()));
  ASSERT_TRUE(file->WriteAt(2, Bytes::Copy("kept")).ok());
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_EQ(Content(disk, "/data.log"), "lokept");
  disk.Crash(1, CrashPolicy::KeepAll());
  EXPECT_EQ(Content(disk, "/data.log"), std::string("\0\0kept", 6));
}

TEST(SimFiles, F12_FullDiskTakesWhatFits) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  disk.SetCapacity(6);
  EXPECT_TRUE(absl::IsResourceExhausted(file->WriteAt(0, Bytes::Copy("0123456789"))));
  EXPECT_EQ(Content(disk, "/f"), "012345");
  EXPECT_EQ(*disk.FreeBytes("/"), 0u);
  EXPECT_TRUE(file->WriteAt(0, Bytes::Copy("ab")).ok()) << "overwriting needs no space";
  disk.SetCapacity(10);
  EXPECT_TRUE(file->WriteAt(0, Bytes::Copy("0123456789")).ok());
}

TEST(SimFiles, ReadAndWriteFaultsAndDamage) {
  SimFiles disk;
  auto file = Create(disk, "/f");
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy(std::string(100, 'a'))).ok());
  char out[100];
  disk.FailReads("/f", 50, 10);
  EXPECT_TRUE(file->ReadAt(0, out, 50).ok());
  EXPECT_TRUE(absl::IsDataLoss(file->ReadAt(0, out, 51).status()));
  EXPECT_TRUE(absl::IsDataLoss(file->ReadAt(59, out, 41).status()));
  EXPECT_TRUE(file->ReadAt(60, out, 40).ok());
  disk.FailNextWrite("/f");
  EXPECT_TRUE(absl::IsDataLoss(file->WriteAt(0, Bytes::Copy("b"))));
  EXPECT_TRUE(file->WriteAt(0, Bytes::Copy("c")).ok());
  disk.FailNextOpen("/f");
  EXPECT_TRUE(absl::IsResourceExhausted(disk.Open("/f", {}).status()));
  EXPECT_TRUE(disk.Open("/f", {}).ok());
  disk.ClearFaults();
  ASSERT_TRUE(disk.SyncDir("/").ok() && file->Sync().ok());
  ASSERT_TRUE(disk.FlipBit("/f", 1, 1).ok());
  EXPECT_TRUE(absl::IsOutOfRange(disk.FlipBit("/f", 100)));
  disk.Crash(1);
  EXPECT_EQ(Content(disk, "/f").substr(0, 3), "cca");
}

}  // namespace
}  // namespace sluice::sim
