// What the store and both indexes keep through a power loss, at every file operation, on the simulated disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <string>
#include <vector>

#include "blob/format.h"
#include "blob/store.h"
#include "blob/trash.h"
#include "sim/sim_executor.h"
#include "sim/sim_files.h"
#include "sim/world.h"

namespace sluice::blob {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kDir[] = "/data/blob";

UploadId Id(uint64_t call) { return {*ClientId::FromBytes("client-of-a-test"), CallId{call}}; }

std::string Pattern(size_t size) {
  std::string text(size, '\0');
  uint32_t state = 1;
  for (char& c : text) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

Sha256 DigestOf(std::string_view text) {
  DigestBuilder builder;
  builder.Update(text);
  return builder.Finish();
}

// One life of one server's store in virtual time: calls run the world until they are answered.
class Life {
 public:
  explicit Life(env::Files& files) : executors_(world_, process_), reply_(executors_.NewExecutor("reply")) {
    auto store = Store::Open(files, executors_, world_, kDir, {.reserve_bytes = 0});
    status_ = store.status();
    if (store.ok()) store_ = *std::move(store);
  }

  const absl::Status& status() const { return status_; }
  Store& store() { return *store_; }

  void RunFor(env::Duration time) { world_.RunFor(time); }

  template <typename T, typename Start>
  absl::StatusOr<T> Wait(Start start) {
    std::optional<absl::StatusOr<T>> answer;
    start(reply_.get(), [&answer](absl::StatusOr<T> result) { answer = std::move(result); });
    if (!world_.RunUntil([&] { return answer.has_value(); }, std::chrono::minutes(1))) {
      return absl::DeadlineExceededError("no answer");
    }
    return *answer;
  }
  absl::StatusOr<uint64_t> Append(Upload& upload, std::string_view text) {
    return Wait<uint64_t>(
        [&](auto* on, auto done) { upload.Append(upload.length(), Bytes::Copy(text), on, std::move(done)); });
  }
  absl::StatusOr<uint64_t> Flush(Upload& upload) {
    return Wait<uint64_t>([&](auto* on, auto done) { upload.Flush(on, std::move(done)); });
  }
  absl::StatusOr<Sealed> Seal(Upload& upload) {
    return Wait<Sealed>([&](auto* on, auto done) { upload.Seal({}, on, std::move(done)); });
  }
  absl::StatusOr<std::string> ReadAll(const UploadId& id) {
    ASSIGN_OR_RETURN(auto source, store_->OpenSource(kDefaultGroup, id));
    ASSIGN_OR_RETURN(Bytes data, Wait<Bytes>([&](auto* on, auto done) {
                       source->Read(0, source->length(), on, std::move(done));
                     }));
    return data.ToString();
  }

 private:
  sim::World world_{7};
  sim::Process process_;
  sim::SimExecutors executors_;
  std::unique_ptr<env::Executor> reply_;
  absl::Status status_;
  std::unique_ptr<Store> store_;  // last: it ends before its world
};

// What was acknowledged before the power failed.
struct Acknowledged {
  bool created = false;
  uint64_t durable = 0;
  std::optional<Sealed> sealed = std::nullopt;
  bool linked = false;  // and synced
  bool remove_began = false;
  bool removed = false;  // and synced
};

const std::string& Text() {
  static const std::string text = Pattern(2 * kChunkBytes + 1234);
  return text;
}

// Creates, appends, flushes twice, seals, links, removes; stops at the first error.
absl::Status Script(env::Files& files, bool compute_digest, Acknowledged& done) {
  const std::string_view text = Text();
  Life life(files);
  RETURN_IF_ERROR(life.status());
  ASSIGN_OR_RETURN(auto upload, life.store().Create({.id = Id(1),
                                                     .group = kDefaultGroup,
                                                     .epoch = 2,
                                                     .compute_digest = compute_digest,
                                                     .context = "header"}));
  done.created = true;
  for (const auto& [from, to] : {std::pair<size_t, size_t>{0, 1000}, {1000, kChunkBytes + 5}}) {
    RETURN_IF_ERROR(life.Append(*upload, text.substr(from, to - from)).status());
    ASSIGN_OR_RETURN(done.durable, life.Flush(*upload));
  }
  RETURN_IF_ERROR(life.Append(*upload, text.substr(kChunkBytes + 5)).status());
  ASSIGN_OR_RETURN(done.sealed, life.Seal(*upload));
  RETURN_IF_ERROR(life.store().Link(kDefaultGroup, Id(1)));
  RETURN_IF_ERROR(life.store().SyncLinks());
  done.linked = true;
  done.remove_began = true;
  RETURN_IF_ERROR(life.store().Remove(Id(1)));
  RETURN_IF_ERROR(life.store().SyncLinks());
  done.removed = true;
  return absl::OkStatus();
}

// What is wrong with the disk that a power loss left; empty if every promise is kept.
std::string Judge(sim::SimFiles& disk, const Acknowledged& before) {
  Life life(disk);
  if (!life.status().ok()) return life.status().ToString();
  auto state = life.store().SealedState(kDefaultGroup, Id(1));
  if (!state.ok()) return state.status().ToString();
  auto stage = life.store().Find(kDefaultGroup, Id(1));
  if (before.removed && (state->has_value() || stage != nullptr)) return "removed content is back";
  if (before.linked && stage != nullptr) return "linked content is a stage again";
  if (before.sealed && !before.remove_began && !state->has_value()) return "sealed bytes are lost";
  if (state->has_value()) {
    if (before.sealed && **state != *before.sealed) return "sealed state has changed";
    if ((*state)->length != Text().size()) return "wrong length";
    if ((*state)->digest && *(*state)->digest != DigestOf(Text())) return "wrong digest";
    auto text = life.ReadAll(Id(1));
    if (!text.ok()) return text.status().ToString();
    if (*text != Text()) return "wrong bytes";
    if (absl::Status linked = life.store().Link(kDefaultGroup, Id(1)); !linked.ok()) return linked.ToString();
    if (absl::Status synced = life.store().SyncLinks(); !synced.ok()) return synced.ToString();
    return *life.ReadAll(Id(1)) == Text() ? "" : "wrong bytes after linking again";
  }
  if (before.durable > 0 && !before.remove_began && stage == nullptr) return "flushed stage is lost";
  if (stage == nullptr) return "";
  // An open stage: whatever length it names, sealing it gives exactly that prefix.
  if (stage->spec().context != "header" || stage->spec().epoch != 2) return "wrong spec";
  const uint64_t length = stage->length();
  if (length < before.durable)
    return fmt::format("{} bytes were durable, {} are left", before.durable, length);
  if (stage->durable_length() != length) return "an undurable length";
  const std::string_view prefix = std::string_view(Text()).substr(0, length);
  auto sealed = life.Seal(*stage);
  if (!sealed.ok()) return sealed.status().ToString();
  if (sealed->length != length || (sealed->digest && *sealed->digest != DigestOf(prefix)))
    return "wrong seal";
  auto text = life.ReadAll(Id(1));
  if (!text.ok()) return text.status().ToString();
  return *text == prefix ? "" : "wrong bytes of the prefix";
}

// Power fails at each operation in turn, with several fates of what was not synced; what is wrong afterwards.
std::vector<std::string> Sweep(const std::vector<sim::CrashPolicy>& policies, uint64_t seeds,
                               bool lose_syncs) {
  std::vector<std::string> wrong;
  for (const bool digest : {false, true}) {
    for (uint64_t n = 1;; ++n) {
      sim::SimFiles disk;
      disk.LoseSyncs(lose_syncs);
      disk.HaltAt(n);
      Acknowledged done;
      const absl::Status ran = Script(disk, digest, done);
      disk.Halt();
      for (const sim::CrashPolicy& policy : policies) {
        for (uint64_t seed = 1; seed <= seeds; ++seed) {
          auto after = disk.CrashClone(seed, policy);
          after->LoseSyncs(false);
          if (std::string what = Judge(*after, done); !what.empty()) {
            wrong.push_back(fmt::format("operation {}, seed {}: {}", n, seed, what));
          }
        }
      }
      if (ran.ok()) break;
    }
  }
  return wrong;
}

TEST(BlobCrash, F23_PowerFailsAtEveryStepOfAnUpload) { EXPECT_THAT(Sweep({{}}, 6, false), IsEmpty()); }

TEST(BlobCrash, F16_NamesThatWereNotSyncedAreDropped) {
  EXPECT_THAT(Sweep({sim::CrashPolicy::DropUnsynced(), sim::CrashPolicy::KeepAll()}, 1, false), IsEmpty());
}

TEST(BlobCrash, ADiskThatLosesSyncsIsNoticed) { EXPECT_THAT(Sweep({{}}, 1, true), Not(IsEmpty())); }

TEST(BlobCrash, F23_KilledProcessesKeepEverythingThatWasWritten) {
  for (uint64_t n = 1;; ++n) {
    sim::SimFiles disk;
    disk.HaltAt(n);
    Acknowledged done;
    const absl::Status ran = Script(disk, true, done);
    disk.KillProcess();
    auto later = disk.CrashClone(n);
    // What the next process says after the kill must hold through a power loss, too.
    Acknowledged said = done;
    {
      Life life(disk);
      ASSERT_TRUE(life.status().ok());
      if (auto stage = life.store().Find(kDefaultGroup, Id(1)); stage != nullptr) {
        said.durable = stage->durable_length();
        if (stage->sealed()) said.sealed = *life.store().SealedState(kDefaultGroup, Id(1)).value();
      }
      disk.Halt();
    }
    auto after = disk.CrashClone(n);
    EXPECT_EQ(Judge(*after, said), "") << "operation " << n;
    if (ran.ok()) break;
  }
}

TEST(BlobCrash, F10_AFailedSyncIsFinal) {
  for (const char* what : {".stage", "/stage/"}) {
    sim::SimFiles disk;
    {
      Life life(disk);
      ASSERT_TRUE(life.status().ok());
      auto upload =
          *life.store().Create({.id = Id(1), .group = kDefaultGroup, .epoch = 2, .context = "header"});
      ASSERT_TRUE(life.Append(*upload, Text().substr(0, 500)).ok());
      ASSERT_TRUE(life.Flush(*upload).ok());
      ASSERT_TRUE(life.Append(*upload, Text().substr(500, 500)).ok());
      disk.FailNextSync(what);
      EXPECT_EQ(life.Flush(*upload).status().code(), absl::StatusCode::kDataLoss);
      EXPECT_EQ(life.Flush(*upload).status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(life.Seal(*upload).status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(life.Append(*upload, "x").status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_EQ(upload->durable_length(), 500u);
    }
    disk.Crash(1, sim::CrashPolicy::KeepAll());
    EXPECT_EQ(Judge(disk, {.created = true, .durable = 500}), "") << what;
  }
}

TEST(BlobCrash, F10_AFailedFolderSyncIsFinalForTheStore) {
  sim::SimFiles disk;
  Life life(disk);
  auto upload = *life.store().Create({.id = Id(1), .group = kDefaultGroup, .epoch = 2, .context = "header"});
  ASSERT_TRUE(life.Append(*upload, "hello").ok());
  ASSERT_TRUE(life.Seal(*upload).ok());
  ASSERT_TRUE(life.store().Link(kDefaultGroup, Id(1)).ok());
  disk.FailNextSync(ContentFolder(Id(1)));
  EXPECT_FALSE(life.store().SyncLinks().ok());
  disk.ClearFaults();
  EXPECT_FALSE(life.store().SyncLinks().ok());
}

TEST(BlobCrash, F28_AFullDiskRefusesAndTheUploadGoesOn) {
  sim::SimFiles disk;
  Life life(disk);
  auto upload = *life.store().Create({.id = Id(1), .group = kDefaultGroup, .epoch = 2, .context = "header"});
  ASSERT_TRUE(life.Append(*upload, Text().substr(0, 1000)).ok());
  // Not the reserve that refuses here but the write itself, after a part of it.
  disk.SetCapacity(60'000);
  EXPECT_EQ(life.Append(*upload, Text().substr(1000)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(upload->length(), 1000u);
  disk.ClearFaults();
  ASSERT_TRUE(life.Append(*upload, Text().substr(1000)).ok());
  ASSERT_TRUE(life.Seal(*upload).ok());
  EXPECT_EQ(*life.ReadAll(Id(1)), Text());
}

TEST(BlobCrash, F24_AnUnreadableSectorIsDataLossAndListed) {
  sim::SimFiles disk;
  Life life(disk);
  auto upload = *life.store().Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(life.Append(*upload, Text()).ok());
  ASSERT_TRUE(life.Seal(*upload).ok());
  ASSERT_TRUE(life.store().Link(kDefaultGroup, Id(1)).ok());
  disk.FailReads(Id(1).ToHex(), kChunkBytes + 10, 1);
  EXPECT_EQ(life.ReadAll(Id(1)).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(life.store().TakeDamaged(), ElementsAre(Id(1)));
}

// ---- removal

std::vector<std::string> TrashOf(sim::SimFiles& disk) { return *disk.List("/data/blob/trash"); }

// K14: the process that removed a content was killed before it made that durable. The next one does, before the
// bytes are freed, and before an index that has forgotten the content gets durable.
TEST(BlobCrash, K14_ARemovalOfAKilledProcessIsMadeDurable) {
  for (const bool removed_again : {false, true}) {
    sim::SimFiles disk;
    {
      Life life(disk);
      auto upload = life.store().Create({.id = Id(1), .group = kDefaultGroup, .context = ""});
      ASSERT_TRUE(upload.ok()) << upload.status();
      ASSERT_TRUE(life.Append(**upload, Text()).ok());
      ASSERT_TRUE(life.Seal(**upload).ok());
      ASSERT_TRUE(life.store().Link(kDefaultGroup, Id(1)).ok());
      life.store().LinksEntered(kDefaultGroup);
      ASSERT_TRUE(life.store().SyncLinks().ok());
    }
    {
      Life life(disk);
      ASSERT_TRUE(life.store().Remove(Id(1)).ok());
      disk.Halt();
    }
    disk.KillProcess();
    {
      Life life(disk);
      if (removed_again) {
        ASSERT_TRUE(life.store().Remove(Id(1)).ok());
        ASSERT_TRUE(life.store().SyncLinks().ok());
      } else {
        life.RunFor(std::chrono::minutes(1));
        EXPECT_THAT(disk.List(std::string(kDir) + "/trash").value(), IsEmpty());
      }
      disk.Halt();
    }
    disk.Crash(1, sim::CrashPolicy::DropUnsynced());
    Life life(disk);
    const auto state = life.store().SealedState(kDefaultGroup, Id(1));
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_FALSE(state->has_value()) << "it is back, with bytes that were freed";
  }
}

TEST(BlobCrash, K17_RemovalIsOneRenameAndReadersKeepTheirBytes) {
  sim::SimFiles disk;
  Life life(disk);
  auto upload = *life.store().Create({.id = Id(1), .group = kDefaultGroup});
  ASSERT_TRUE(life.Append(*upload, Text()).ok());
  ASSERT_TRUE(life.Seal(*upload).ok());
  ASSERT_TRUE(life.store().Link(kDefaultGroup, Id(1)).ok());
  upload.reset();
  auto source = *life.store().OpenSource(kDefaultGroup, Id(1));
  const uint64_t before = disk.operations();
  ASSERT_TRUE(life.store().Remove(Id(1)).ok());
  EXPECT_EQ(disk.operations(), before + 1);
  EXPECT_FALSE(life.store().OpenSource(kDefaultGroup, Id(1)).ok());
  life.RunFor(std::chrono::seconds(5));
  EXPECT_EQ(TrashOf(disk).size(), 1u);  // somebody reads it
  auto text =
      life.Wait<Bytes>([&](auto* on, auto done) { source->Read(0, source->length(), on, std::move(done)); });
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->ToString(), Text());
  source.reset();
  life.RunFor(std::chrono::seconds(5));
  EXPECT_THAT(TrashOf(disk), IsEmpty());
}

class TrashTest : public ::testing::Test {
 protected:
  static constexpr char kFile[] = "/data/names/file";
  TrashTest() {
    EXPECT_TRUE(disk_.MakeDirs("/data/names").ok());
    Make();
  }
  void Make() {
    auto file = *disk_.Open(kFile, {.create = true});
    EXPECT_TRUE(file->WriteAt(0, Bytes::Take(std::string(1000, 'x'))).ok());
    EXPECT_TRUE(file->Sync().ok());
    EXPECT_TRUE(disk_.SyncDir("/data/names").ok());
  }
  absl::Status Open() {
    process_ = std::make_unique<sim::Process>();
    executors_ = std::make_unique<sim::SimExecutors>(world_, *process_);
    trash_ = std::make_unique<Trash>(disk_, *executors_, "/data/trash",
                                     Trash::Options{.before_freeing = [this] { return Sync(); },
                                                    .in_use = [this](const UploadId&) { return in_use_; },
                                                    .step_bytes = 100,
                                                    .entries_max = 2});
    return trash_->Recover([this](const UploadId&) { return disk_.Exists(kFile); });
  }
  absl::Status Sync() {
    ++syncs_;
    return disk_.SyncDir("/data/names");
  }
  void Run() { world_.RunFor(std::chrono::seconds(5)); }
  std::vector<std::string> Waiting() { return *disk_.List("/data/trash"); }
  // What stands under the old name: its size, or nothing.
  std::optional<uint64_t> Named() {
    auto file = disk_.Open(kFile, {.read_only = true});
    return file.ok() ? std::optional(*(*file)->Size()) : std::nullopt;
  }

  sim::SimFiles disk_;
  sim::World world_{1};
  std::unique_ptr<sim::Process> process_;
  std::unique_ptr<sim::SimExecutors> executors_;
  bool in_use_ = false;
  int syncs_ = 0;
  std::unique_ptr<Trash> trash_;
};

TEST_F(TrashTest, K17_ALargeFileIsFreedInSteps) {
  ASSERT_TRUE(Open().ok());
  const uint64_t before = disk_.operations();
  ASSERT_TRUE(trash_->Take(kFile, Id(1)).ok());
  EXPECT_EQ(disk_.operations(), before + 1);
  EXPECT_EQ(Named(), std::nullopt);
  EXPECT_EQ(Waiting().size(), 1u);
  Run();
  EXPECT_THAT(Waiting(), IsEmpty());
  EXPECT_EQ(syncs_, 1);
  EXPECT_EQ(disk_.operations(), before + 1 + 1 + 9 + 1);  // rename, sync, nine steps, removal
  EXPECT_TRUE(absl::IsNotFound(trash_->Take(kFile, Id(1))));
}

TEST_F(TrashTest, K17_WhatIsInUseWaits) {
  ASSERT_TRUE(Open().ok());
  in_use_ = true;
  ASSERT_TRUE(trash_->Take(kFile, Id(1)).ok());
  Run();
  ASSERT_EQ(Waiting().size(), 1u);
  auto file = *disk_.Open("/data/trash/" + Waiting()[0], {.read_only = true});
  EXPECT_EQ(*file->Size(), 1000u);
  in_use_ = false;
  Run();
  EXPECT_THAT(Waiting(), IsEmpty());
}

TEST_F(TrashTest, K17_AFullTrashRemovesAtOnce) {
  ASSERT_TRUE(Open().ok());
  in_use_ = true;
  for (uint64_t i = 1; i <= 4; ++i) {
    Make();
    ASSERT_TRUE(trash_->Take(kFile, Id(i)).ok());
    EXPECT_EQ(Named(), std::nullopt);
  }
  EXPECT_EQ(Waiting().size(), 2u);
}

TEST_F(TrashTest, K17_PowerFailsAtEveryStepOfARemoval) {
  for (uint64_t n = 1;; ++n) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      Make();
      disk_.HaltAt(disk_.operations() + n);
      bool taken = false;
      if (Open().ok()) {
        taken = trash_->Take(kFile, Id(1)).ok();
        Run();
      }
      const bool all = !disk_.halted();
      process_->Kill();
      trash_.reset();
      disk_.HaltAt(0);
      disk_.Crash(seed);
      if (all) {
        EXPECT_EQ(Named(), std::nullopt);
      }
      const auto named = Named();
      if (!taken && n > 2) {
        EXPECT_TRUE(named) << "operation " << n << ", seed " << seed;
      }
      ASSERT_TRUE(Open().ok());
      Run();
      EXPECT_THAT(Waiting(), IsEmpty()) << "operation " << n << ", seed " << seed;
      // Whole, or not at all.
      EXPECT_EQ(Named(), named) << "operation " << n << ", seed " << seed;
      if (named) {
        EXPECT_EQ(*named, 1000u) << "operation " << n << ", seed " << seed;
      }
      process_->Kill();
      trash_.reset();
      if (all && seed == 8) return;
    }
  }
}

// ---- the indexes

using OpenIndex = absl::StatusOr<std::unique_ptr<Index>> (*)(env::Files&, const std::string&,
                                                             const IndexOptions&, IndexHooks);

class IndexCrash : public ::testing::TestWithParam<OpenIndex> {
 protected:
  static std::string Key(uint64_t i) { return fmt::format("k{:04}", i); }

  // Batch i puts key i and moves "last" and "pair" to i; every third is flushed. Gives the last flushed one.
  absl::Status Script(env::Files& files, uint64_t& flushed) {
    ASSIGN_OR_RETURN(auto index, GetParam()(files, "/data/index", {.ballast_bytes = 0}, {}));
    for (uint64_t i = 1; i <= 9; ++i) {
      IndexBatch batch;
      batch.Put("last", std::to_string(i));
      batch.Put(Key(i), std::string(1000, 'v'));
      batch.Put("pair", std::to_string(i));
      RETURN_IF_ERROR(index->Write(batch));
      if (i % 3 == 0) {
        RETURN_IF_ERROR(index->Flush());
        flushed = i;
      }
    }
    return absl::OkStatus();
  }

  std::string Judge(env::Files& files, uint64_t flushed) {
    auto index = GetParam()(files, "/data/index", {.ballast_bytes = 0}, {});
    if (!index.ok()) return index.status().ToString();
    auto last = (*index)->Get("last");
    auto pair = (*index)->Get("pair");
    if (!last.ok() || !pair.ok()) return last.status().ToString() + pair.status().ToString();
    if (*last != *pair) return "a part of a batch";
    const uint64_t count = last->has_value() ? std::stoull(**last) : 0;
    if (count < flushed) return fmt::format("batch {} was flushed, {} is the last", flushed, count);
    uint64_t keys = 0;
    absl::Status scanned = (*index)->Scan("k", "", [&](std::string_view key, std::string_view value) {
      return key == Key(++keys) && value.size() == 1000;
    });
    if (!scanned.ok()) return scanned.ToString();
    return keys == count ? "" : fmt::format("batch {} is the last, {} keys", count, keys);
  }
};

TEST_P(IndexCrash, D23_APrefixOfTheBatchesIsLeftAndNoFlushIsLost) {
  uint64_t swept = 0;
  for (uint64_t n = 1;; n += 1 + n / 6) {  // every operation at first, then ever fewer
    sim::SimFiles disk;
    disk.HaltAt(n);
    uint64_t flushed = 0;
    const absl::Status ran = Script(disk, flushed);
    disk.Halt();
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      auto after = disk.CrashClone(seed);
      EXPECT_EQ(Judge(*after, flushed), "") << "operation " << n << ", seed " << seed;
    }
    ++swept;
    if (ran.ok()) break;
  }
  EXPECT_GT(swept, 3u);
}

TEST_P(IndexCrash, F10_AFailedSyncIsNotTriedAgain) {
  sim::SimFiles disk;
  auto index = GetParam()(disk, "/data/index", {.ballast_bytes = 0}, {});
  ASSERT_TRUE(index.ok()) << index.status();
  IndexBatch batch;
  batch.Put("a", "1");
  ASSERT_TRUE((*index)->Write(batch).ok());
  disk.FailNextSync("/data/index", 1);
  EXPECT_FALSE((*index)->Flush().ok());
  disk.ClearFaults();
  EXPECT_FALSE((*index)->Flush().ok());
  disk.Halt();
}

// ---- a full disk

// A full disk takes a part of a write. That part must not lie behind the footer, which is found from the end.
TEST(FullDiskStage, F28_PartOfAWriteThatFoundNoRoomDoesNotStay) {
  sim::SimFiles disk;
  const std::string text = Pattern(200'000);
  {
    Life life(disk);
    auto upload = life.store().Create({.id = Id(1), .group = kDefaultGroup});
    ASSERT_TRUE(upload.ok());
    ASSERT_TRUE(life.Append(**upload, text.substr(0, 10'000)).ok());
    constexpr uint64_t kPlenty = uint64_t{1} << 40;
    disk.SetCapacity(kPlenty);
    disk.SetCapacity(kPlenty - *disk.FreeBytes("/data") + 50'000);
    EXPECT_TRUE(absl::IsResourceExhausted(life.Append(**upload, text.substr(10'000)).status()));
    EXPECT_EQ(*disk.FreeBytes("/data"), 50'000u);
    disk.SetCapacity(kPlenty);
    ASSERT_TRUE(life.Append(**upload, text.substr(10'000, 1'000)).ok());
    ASSERT_TRUE(life.Seal(**upload).ok());
    ASSERT_TRUE(life.store().Link(kDefaultGroup, Id(1), std::nullopt).ok());
  }
  Life life(disk);
  const auto read = life.ReadAll(Id(1));
  EXPECT_TRUE(read.ok() && *read == text.substr(0, 11'000)) << read.status();
}

class FullDisk : public ::testing::Test {
 protected:
  static constexpr uint64_t kPlenty = uint64_t{1} << 40;
  static constexpr IndexOptions kSizes = {.write_buffer_bytes = 1 << 20, .ballast_bytes = 4 << 20};

  // So many bytes are left from here on.
  void Leave(uint64_t bytes) {
    disk_.SetCapacity(kPlenty);
    disk_.SetCapacity(kPlenty - *disk_.FreeBytes("/data") + bytes);
  }
  void Open() {
    index_.reset();
    auto index = OpenRocksIndex(disk_, "/data/index", kSizes, {.before_durable = [this] {
                                  if (before_durable_) before_durable_();
                                  return absl::OkStatus();
                                }});
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }
  absl::Status Put(const std::string& key) {
    IndexBatch batch;
    batch.Put(key, "value");
    return index_->Write(batch);
  }
  bool Has(const std::string& key) {
    auto value = index_->Get(key);
    EXPECT_TRUE(value.ok()) << value.status();
    return value.ok() && value->has_value();
  }

  sim::SimFiles disk_;
  std::function<void()> before_durable_;  // changed only while nothing is written
  std::unique_ptr<Index> index_;
};

TEST_F(FullDisk, K23_F12_AnIndexThatCannotBecomeDurableTakesWritesAndReads) {
  Open();
  ASSERT_TRUE(Put("a").ok());
  ASSERT_TRUE(index_->Flush().ok());
  ASSERT_TRUE(Put("b").ok());
  Leave(10'000);
  EXPECT_TRUE(index_->Flush().ok()) << "in the room of the ballast";
  ASSERT_TRUE(Put("c").ok());
  Leave(10'000);
  for (int i = 0; i < 3; ++i) {
    const absl::Status flushed = index_->Flush();
    EXPECT_TRUE(absl::IsResourceExhausted(flushed)) << flushed << *disk_.FreeBytes("/data");
    EXPECT_TRUE(Put(fmt::format("d{}", i)).ok()) << "a removal must be possible";
    EXPECT_TRUE(Has("a") && Has("c"));
  }
  Leave(64 << 20);
  EXPECT_TRUE(index_->Flush().ok());
  Leave(0);
  Open();  // the ballast was made again
  EXPECT_TRUE(Has("b") && Has("c") && Has("d2"));
}

TEST_F(FullDisk, K23_AnIndexOpensWithNoByteFree) {
  Open();
  ASSERT_TRUE(Put("a").ok());
  ASSERT_TRUE(index_->Flush().ok());
  Leave(0);
  Open();
  EXPECT_TRUE(Has("a"));
  EXPECT_TRUE(Put("b").ok());
  EXPECT_TRUE(Has("b"));
}

// Somebody cleaned up, and took the room that was kept for openings.
TEST_F(FullDisk, K23_AnIndexOpensInTheRoomOfItsBallast) {
  Open();
  ASSERT_TRUE(Put("a").ok());
  ASSERT_TRUE(index_->Flush().ok());
  index_.reset();
  ASSERT_TRUE(disk_.Remove("/data/index/opening").ok());
  Leave(0);
  Open();
  EXPECT_TRUE(Has("a"));
}

// Whatever was given up while it ran, and whoever takes every byte between two starts.
TEST_F(FullDisk, K23_AnIndexOpensWithNoByteFreeAgainAndAgain) {
  Open();
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(Put(fmt::format("k{}", i)).ok());
    Leave(100'000);
    if (i == 0) {
      ASSERT_TRUE(index_->Flush().ok()) << "in the room of the ballast";
    }
    Leave(0);
    Open();
    EXPECT_TRUE(Has("k0"));
  }
}

// Tables of the first level wait for a compaction that has no room.
TEST_F(FullDisk, K23_WritesAndFlushesDoNotWaitForCompactions) {
  Open();
  for (int i = 0; i < 3; ++i) {
    IndexBatch batch;
    for (int k = 0; k < 2; ++k) batch.Put(fmt::format("k{}", k), std::string(700 << 10, 'v'));
    ASSERT_TRUE(index_->Write(batch).ok());
    ASSERT_TRUE(index_->Flush().ok());
  }
  Leave(1'300 << 10);  // less than a compaction writes, enough for small flushes
  auto written = std::async(std::launch::async, [&] {
    for (int i = 0; i < 60; ++i) {
      if (!Put(fmt::format("s{}", i)).ok() || !index_->Flush().ok()) return i;
      Leave(1'300 << 10);
    }
    return 60;
  });
  const bool ended = written.wait_for(std::chrono::seconds(60)) == std::future_status::ready;
  EXPECT_TRUE(ended) << "a write or a flush waits";
  if (!ended) disk_.ClearFaults();
  EXPECT_EQ(written.get(), 60);
}

// RocksDB's own flush met the full disk: it must not need a restart.
TEST_F(FullDisk, K23_F12_AnIndexWhoseOwnFlushFailedGoesOnWhenThereIsRoom) {
  Open();
  ASSERT_TRUE(Put("a").ok());
  ASSERT_TRUE(index_->Flush().ok());
  Leave(0);
  absl::Status written;
  int count = 0;
  while (written.ok() && count < 40) {
    IndexBatch batch;
    batch.Put(fmt::format("k{}", count), std::string(512 << 10, 'v'));
    written = index_->Write(batch);
    if (written.ok()) ++count;
    if (count == 12) Leave(0);  // the ballast is spent by now
  }
  ASSERT_TRUE(absl::IsResourceExhausted(written)) << written;
  EXPECT_TRUE(Has("a"));
  Leave(64 << 20);
  // RocksDB looks for room every few seconds.
  std::promise<void> never;
  const auto pause = never.get_future();
  for (int i = 0; i < 600 && !Put("b").ok(); ++i) pause.wait_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(Put("b").ok());
  // RocksDB 7.8 answers from here on before a flush has ended.
  std::promise<void> begun, go_on;
  before_durable_ = [&] {
    begun.set_value();
    go_on.get_future().wait();
  };
  auto flushed = std::async(std::launch::async, [this] { return index_->Flush(); });
  begun.get_future().wait();
  EXPECT_EQ(flushed.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout)
      << "not durable yet";
  go_on.set_value();
  EXPECT_TRUE(flushed.get().ok());
  before_durable_ = nullptr;
  Open();
  EXPECT_TRUE(Has("a") && Has("b") && Has(fmt::format("k{}", count - 1)));
}

INSTANTIATE_TEST_SUITE_P(Both, IndexCrash, ::testing::Values(&OpenRocksIndex, &OpenMapIndex),
                         [](const auto& test) { return test.index == 0 ? "Rocks" : "Map"; });

}  // namespace
}  // namespace sluice::blob
