// What every env::Files does: one gtest suite, run against the real file system and the simulated disk.
//
//   INSTANTIATE_TEST_SUITE_P(Real, FilesContract, testing::Values(FilesCase{"Real", MakeRealScene}),
//                            FilesCaseName);
//
// Include it in one .cc of a test program.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>

#include "env/files.h"

namespace sluice::sim {

// A place to test in; what it made is gone with it.
class FilesScene {
 public:
  virtual ~FilesScene() = default;
  virtual env::Files& files() = 0;
  // An existing empty folder.
  virtual std::string root() = 0;
};

struct FilesCase {
  std::string name;
  std::function<std::unique_ptr<FilesScene>()> make;
};

inline std::string FilesCaseName(const testing::TestParamInfo<FilesCase>& info) { return info.param.name; }
inline void PrintTo(const FilesCase& files_case, std::ostream* out) { *out << files_case.name; }

class FilesContract : public testing::TestWithParam<FilesCase> {
 protected:
  std::string Path(const std::string& name) { return scene_->root() + "/" + name; }
  env::Files& files() { return scene_->files(); }
  std::unique_ptr<env::File> MustOpen(const std::string& name, const env::OpenOptions& options) {
    auto file = files().Open(Path(name), options);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? std::move(*file) : nullptr;
  }
  std::string Content(const std::string& name) {
    const auto content = env::ReadWholeFile(files(), Path(name), 64 << 20);
    return content.ok() ? *content : "error: " + content.status().ToString();
  }
  std::vector<std::string> Names(const std::string& folder) {
    const auto names = files().List(folder);
    EXPECT_TRUE(names.ok()) << names.status();
    return names.value_or(std::vector<std::string>{});
  }

 private:
  std::unique_ptr<FilesScene> scene_ = GetParam().make();
};

TEST_P(FilesContract, ReadsWhatWasWrittenInManyPieces) {
  Bytes data;
  std::string expected;
  for (int i = 0; i < 1500; ++i) {  // more pieces than one system call takes
    const std::string piece(600, static_cast<char>('a' + i % 26));
    data.Append(Bytes::Take(std::string(piece)));
    expected += piece;
  }
  const auto file = MustOpen("f", {.create = true});
  ASSERT_TRUE(file->WriteAt(5, data).ok());
  EXPECT_EQ(*file->Size(), expected.size() + 5);
  EXPECT_EQ(Content("f"), std::string(5, '\0') + expected);
}

// However writes, cuts, syncs and reads follow one another, runs or not, the file holds what was written.
TEST_P(FilesContract, RunsOfAnySizeHoldWhatWasWritten) {
  constexpr size_t kRunBytes = 16 << 10;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    const std::string name = "f" + std::to_string(seed);
    std::string expected;
    {
      const auto file = MustOpen(name, {.create = true, .run_bytes = kRunBytes});
      for (int step = 0; step < 200; ++step) {
        const uint32_t kind = random() % 16;
        if (kind == 0) {
          const size_t size = random() % (expected.size() + 10);
          ASSERT_TRUE(file->Truncate(size).ok());
          expected.resize(size);
        } else if (kind == 1) {
          ASSERT_TRUE(file->Sync().ok());
        } else if (kind == 2) {
          const size_t from = random() % (expected.size() + 1);
          std::string out(random() % 40'000, '\0');
          const auto got = file->ReadAt(from, out.data(), out.size());
          ASSERT_TRUE(got.ok()) << got.status();
          ASSERT_EQ(out.substr(0, *got), expected.substr(from, out.size()))
              << "seed " << seed << " step " << step;
        } else {
          // Mostly at the end; sometimes over what is there, sometimes behind a hole.
          const size_t at = kind == 3   ? random() % (expected.size() + 1)
                            : kind == 4 ? expected.size() + random() % 10'000
                                        : expected.size();
          const std::string data(1 + random() % (kind < 10 ? 50 : 40'000),
                                 static_cast<char>('a' + step % 26));
          ASSERT_TRUE(file->WriteAt(at, Bytes::Copy(data)).ok());
          expected.resize(std::max(expected.size(), at + data.size()));
          expected.replace(at, data.size(), data);
        }
        ASSERT_EQ(*file->Size(), expected.size()) << "seed " << seed << " step " << step;
      }
    }
    EXPECT_EQ(Content(name), expected) << "seed " << seed;
  }
}

TEST_P(FilesContract, ReadsWholeBlocksPastTheCache) {
  std::string expected;
  for (int i = 0; i < 3000; ++i) expected += std::to_string(i);
  ASSERT_TRUE(MustOpen("f", {.create = true})->WriteAt(0, Bytes::Copy(expected)).ok());
  const auto file = MustOpen("f", {.direct = true, .read_only = true});
  const size_t size = env::WholeBlocks(expected.size());
  const env::AlignedMemory out = env::AllocateAligned(size);
  EXPECT_EQ(*file->ReadAt(0, out.get(), size), expected.size());
  EXPECT_EQ(std::string_view(out.get(), expected.size()), expected);
  EXPECT_EQ(*file->ReadAt(4096, out.get(), 4096), 4096u);
  EXPECT_EQ(std::string_view(out.get(), 4096), expected.substr(4096, 4096));
  EXPECT_EQ(*file->ReadAt(4097, out.get(), 100), 100u);
  EXPECT_EQ(std::string_view(out.get(), 100), expected.substr(4097, 100));
}

TEST_P(FilesContract, ReadIsShortOnlyAtTheEnd) {
  const auto file = MustOpen("f", {.create = true});
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("0123456789")).ok());
  char out[16] = {};
  EXPECT_EQ(*file->ReadAt(8, out, sizeof(out)), 2u);
  EXPECT_EQ(std::string_view(out, 2), "89");
  EXPECT_EQ(*file->ReadAt(10, out, sizeof(out)), 0u);
  EXPECT_EQ(*file->ReadAt(999, out, sizeof(out)), 0u);
  EXPECT_EQ(*file->ReadAt(0, out, 0), 0u);
}

TEST_P(FilesContract, WriteOverwritesInPlaceAndTruncateCutsAndExtends) {
  const auto file = MustOpen("f", {.create = true});
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("0123456789")).ok());
  ASSERT_TRUE(file->WriteAt(2, Bytes::Copy("ab")).ok());
  ASSERT_TRUE(file->WriteAt(20, Bytes()).ok());
  EXPECT_EQ(Content("f"), "01ab456789");
  ASSERT_TRUE(file->Truncate(3).ok());
  EXPECT_EQ(Content("f"), "01a");
  ASSERT_TRUE(file->Truncate(5).ok());
  EXPECT_EQ(Content("f"), std::string("01a\0\0", 5));
}

TEST_P(FilesContract, DurableWritesAreReadBack) {
  for (const bool direct : {false, true}) {
    const auto file = MustOpen(direct ? "direct" : "buffered", {.create = true, .direct = direct});
    ASSERT_TRUE(file->WriteAt(0, Bytes::Copy(std::string(3 * 4096, 'z'))).ok());
    Bytes blocks = Bytes::Copy(std::string(1000, 'a'));
    blocks.Append(Bytes::Take(std::string(7192, 'b')));
    ASSERT_TRUE(file->WriteDurably(4096, blocks).ok());
    EXPECT_EQ(Content(direct ? "direct" : "buffered"),
              std::string(4096, 'z') + std::string(1000, 'a') + std::string(7192, 'b'));
    const std::string large(9 << 20, 'L');  // more than one direct write
    ASSERT_TRUE(file->WriteDurably(0, Bytes::Copy(large)).ok());
    EXPECT_TRUE(Content(direct ? "direct" : "buffered") == large);
    ASSERT_TRUE(file->Sync().ok());
    file->StartWriteback(0, 4096);
    file->DropCache();
  }
}

TEST_P(FilesContract, OpenSaysWhatIsWrong) {
  EXPECT_TRUE(absl::IsNotFound(files().Open(Path("absent"), {}).status()));
  EXPECT_TRUE(absl::IsNotFound(files().Open(Path("no/folder"), {.create = true}).status()));
  EXPECT_NE(MustOpen("f", {.create = true, .exclusive = true}), nullptr);
  EXPECT_TRUE(absl::IsAlreadyExists(files().Open(Path("f"), {.create = true, .exclusive = true}).status()));
  const absl::Status status = files().Open(Path("absent"), {}).status();
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(Path("absent")));
}

TEST_P(FilesContract, ReadOnlyRefusesWrites) {
  MustOpen("f", {.create = true});
  const auto file = MustOpen("f", {.read_only = true});
  EXPECT_TRUE(absl::IsInternal(file->WriteAt(0, Bytes::Copy("x"))));
  EXPECT_EQ(Content("f"), "");
}

TEST_P(FilesContract, RenameReplacesAndRemoveRemoves) {
  ASSERT_TRUE(MustOpen("a", {.create = true})->WriteAt(0, Bytes::Copy("A")).ok());
  ASSERT_TRUE(MustOpen("b", {.create = true})->WriteAt(0, Bytes::Copy("B")).ok());
  ASSERT_TRUE(files().Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(Content("b"), "A");
  EXPECT_FALSE(*files().Exists(Path("a")));
  EXPECT_TRUE(absl::IsNotFound(files().Rename(Path("a"), Path("c"))));
  ASSERT_TRUE(files().Remove(Path("b")).ok());
  EXPECT_TRUE(absl::IsNotFound(files().Remove(Path("b"))));
}

TEST_P(FilesContract, OpenFileOutlivesItsName) {
  const auto file = MustOpen("f", {.create = true});
  ASSERT_TRUE(files().Remove(Path("f")).ok());
  ASSERT_TRUE(file->WriteAt(0, Bytes::Copy("still here")).ok());
  char out[10];
  EXPECT_EQ(*file->ReadAt(0, out, sizeof(out)), 10u);
  EXPECT_FALSE(*files().Exists(Path("f")));
}

TEST_P(FilesContract, FoldersAreMadeListedSyncedAndRemoved) {
  ASSERT_TRUE(files().MakeDirs(Path("x/y/z")).ok());
  ASSERT_TRUE(files().MakeDirs(Path("x/y/z")).ok());
  EXPECT_TRUE(*files().Exists(Path("x/y")));
  MustOpen("x/b", {.create = true});
  MustOpen("x/a", {.create = true});
  EXPECT_THAT(Names(Path("x")), testing::ElementsAre("a", "b", "y"));
  EXPECT_TRUE(files().SyncDir(Path("x")).ok());
  EXPECT_TRUE(absl::IsInternal(files().Remove(Path("x"))));  // not empty
  ASSERT_TRUE(files().Rename(Path("x/a"), Path("x/y/moved")).ok());
  ASSERT_TRUE(files().Remove(Path("x/y/moved")).ok());
  ASSERT_TRUE(files().Remove(Path("x/y/z")).ok());
  EXPECT_THAT(Names(Path("x")), testing::ElementsAre("b", "y"));
  EXPECT_THAT(Names(Path("x/y")), testing::IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(files().List(Path("absent")).status()));
  EXPECT_TRUE(absl::IsNotFound(files().SyncDir(Path("absent"))));
  EXPECT_TRUE(absl::IsAlreadyExists(files().MakeDirs(Path("x/b"))));
}

TEST_P(FilesContract, FolderCannotMoveIntoItself) {
  ASSERT_TRUE(files().MakeDirs(Path("x/y")).ok());
  EXPECT_TRUE(absl::IsInternal(files().Rename(Path("x"), Path("x/y/x"))));
  EXPECT_TRUE(*files().Exists(Path("x/y")));
}

TEST_P(FilesContract, F19_SecondLockIsRefusedUntilTheFirstIsGone) {
  auto first = files().LockFile(Path("lock"));
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = files().LockFile(Path("lock")).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  EXPECT_THAT(std::string(second.message()), testing::HasSubstr(Path("lock")));
  first->reset();
  EXPECT_TRUE(files().LockFile(Path("lock")).ok());
}

TEST_P(FilesContract, FreeBytesAreKnown) { EXPECT_GT(*files().FreeBytes(Path("")), 0u); }

TEST_P(FilesContract, SmallFileIsReplacedWhole) {
  ASSERT_TRUE(env::WriteFileDurably(files(), Path("id"), Bytes::Copy("the first, longer one")).ok());
  ASSERT_TRUE(MustOpen("id.tmp", {.create = true})
                  ->WriteAt(0, Bytes::Copy("left by a crash, and longer still"))
                  .ok());
  ASSERT_TRUE(env::WriteFileDurably(files(), Path("id"), Bytes::Copy("second")).ok());
  EXPECT_EQ(Content("id"), "second");
  EXPECT_FALSE(*files().Exists(Path("id.tmp")));
  EXPECT_TRUE(absl::IsResourceExhausted(env::ReadWholeFile(files(), Path("id"), 5).status()));
  EXPECT_EQ(*env::ReadWholeFile(files(), Path("id"), 6), "second");
}

}  // namespace sluice::sim
