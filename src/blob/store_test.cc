#include "blob/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "base/crc32c.h"
#include "base/temp_folder_for_test.h"
#include "blob/format.h"
#include "blob/inspect.h"

namespace sluice::blob {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A clock that stands still until it is told otherwise.
class HandClock final : public env::Clock {
 public:
  env::Instant MonotonicNow() const override { return now; }
  int64_t WallNowMs() const override { return 0; }
  env::Instant now{1000};
};

UploadId Id(uint64_t call) { return {*ClientId::FromBytes("client-of-a-test"), CallId{call}}; }

UploadSpec Spec(uint64_t call, bool compute_digest = false) {
  return {.id = Id(call),
          .group = kDefaultGroup,
          .epoch = 3,
          .compute_digest = compute_digest,
          .context = "header"};
}

// Differs from place to place, so that a wrong offset shows.
std::string Pattern(size_t size, uint32_t seed = 1) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

Sha256 DigestOf(std::string_view text) {
  DigestBuilder builder;
  builder.Update(text);
  return builder.Finish();
}

uint32_t ChecksumOf(std::string_view text) {
  ChunkList chunks;
  chunks.Extend(Bytes::Copy(text));
  return chunks.Checksum();
}

// Files whose syncs of some path wait until they are told to go on.
class WaitingFiles final : public env::Files {
 public:
  // Syncs of paths with this ending wait from now on; `waiting` tells when one does.
  void Hold(std::string ending) {
    std::lock_guard lock(mutex_);
    ending_ = std::move(ending);
    waiting_ = std::promise<void>();
    go_on_ = std::promise<void>();
    gate_ = go_on_.get_future().share();
  }
  void AwaitOne() { waiting_.get_future().wait(); }
  void LetGo() { go_on_.set_value(); }

  absl::StatusOr<std::unique_ptr<env::File>> Open(const std::string& path,
                                                  const env::OpenOptions& options) override {
    ASSIGN_OR_RETURN(auto file, real_.Open(path, options));
    return std::make_unique<OneFile>(*this, path, std::move(file));
  }
  absl::Status Remove(const std::string& path) override { return real_.Remove(path); }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return real_.Rename(from, to);
  }
  absl::Status MakeDirs(const std::string& path) override { return real_.MakeDirs(path); }
  absl::Status SyncDir(const std::string& path) override { return real_.SyncDir(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override { return real_.List(path); }
  absl::StatusOr<bool> Exists(const std::string& path) override { return real_.Exists(path); }
  absl::StatusOr<std::unique_ptr<env::FileLock>> LockFile(const std::string& path) override {
    return real_.LockFile(path);
  }
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override { return real_.FreeBytes(path); }

 private:
  class OneFile final : public env::File {
   public:
    OneFile(WaitingFiles& all, std::string path, std::unique_ptr<env::File> file)
        : all_(all), path_(std::move(path)), file_(std::move(file)) {}
    absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t count) override {
      return file_->ReadAt(offset, out, count);
    }
    absl::Status WriteAt(uint64_t offset, const Bytes& data) override { return file_->WriteAt(offset, data); }
    absl::Status WriteDurably(uint64_t offset, const Bytes& data) override {
      return file_->WriteDurably(offset, data);
    }
    absl::Status Sync() override {
      all_.Pass(path_);
      return file_->Sync();
    }
    void StartWriteback(uint64_t offset, uint64_t count) override { file_->StartWriteback(offset, count); }
    absl::StatusOr<uint64_t> Size() override { return file_->Size(); }
    absl::Status Truncate(uint64_t size) override { return file_->Truncate(size); }

   private:
    WaitingFiles& all_;
    const std::string path_;
    const std::unique_ptr<env::File> file_;
  };
  void Pass(const std::string& path) {
    std::shared_future<void> gate;
    {
      std::lock_guard lock(mutex_);
      if (ending_.empty() || !path.ends_with(ending_)) return;
      ending_.clear();
      waiting_.set_value();
      gate = gate_;
    }
    gate.wait();
  }
  env::Files& real_ = env::RealFiles();
  std::mutex mutex_;
  std::string ending_;
  std::promise<void> waiting_;
  std::promise<void> go_on_;
  std::shared_future<void> gate_;
};

size_t OpenFilesUnder(const std::string& dir) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    count += fs::read_symlink(entry.path(), gone).string().starts_with(dir);
  }
  return count;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.reserve_bytes = 0;
    reply_ = env::RealExecutors().NewExecutor("reply");
    Open();
  }
  void TearDown() override {
    store_.reset();
    reply_.reset();
  }

  void Open() {
    store_.reset();
    auto store = Store::Open(files_, env::RealExecutors(), clock_, dir_ + "/blob", options_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(store).value();
  }

  // Carries out one call and waits for its answer.
  template <typename T, typename Start>
  absl::StatusOr<T> Wait(Start start) {
    std::promise<absl::StatusOr<T>> promise;
    auto future = promise.get_future();
    start(reply_.get(), [&promise](absl::StatusOr<T> result) { promise.set_value(std::move(result)); });
    return future.get();
  }
  absl::StatusOr<uint64_t> Append(Upload& upload, uint64_t offset, std::string_view text) {
    return Wait<uint64_t>(
        [&](auto* on, auto done) { upload.Append(offset, Bytes::Copy(text), on, std::move(done)); });
  }
  absl::StatusOr<uint64_t> Flush(Upload& upload) {
    return Wait<uint64_t>([&](auto* on, auto done) { upload.Flush(on, std::move(done)); });
  }
  absl::StatusOr<Sealed> Seal(Upload& upload, SealExpectation expected = {}) {
    return Wait<Sealed>([&](auto* on, auto done) { upload.Seal(expected, on, std::move(done)); });
  }
  absl::StatusOr<Bytes> Read(Source& source, uint64_t offset, uint64_t count) {
    return Wait<Bytes>([&](auto* on, auto done) { source.Read(offset, count, on, std::move(done)); });
  }

  std::shared_ptr<Upload> Create(UploadSpec spec, bool replace_content = false) {
    auto upload = store_->Create(std::move(spec), replace_content);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return std::move(upload).value();
  }
  // Makes content out of `text`.
  void Put(uint64_t call, std::string_view text, bool replace_content = false) {
    auto upload = Create(Spec(call), replace_content);
    ASSERT_TRUE(Append(*upload, 0, text).ok());
    ASSERT_TRUE(Seal(*upload).ok());
    ASSERT_TRUE(store_->Link(kDefaultGroup, Id(call)).ok());
    store_->LinksEntered(kDefaultGroup);
    ASSERT_TRUE(store_->SyncLinks().ok());
  }
  std::string ReadAll(uint64_t call) {
    auto source = store_->OpenSource(kDefaultGroup, Id(call));
    if (!source.ok()) return source.status().ToString();
    auto data = Read(**source, 0, (*source)->length());
    return data.ok() ? data->ToString() : data.status().ToString();
  }
  std::string ContentPath(uint64_t call) {
    return dir_ + "/blob/blobs/" + ContentFolder(Id(call)) + "/" + Id(call).ToHex();
  }
  std::vector<std::string> StageFolder() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_ + "/blob/stage"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  void FlipBit(const std::string& path, uint64_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 4));
    ASSERT_TRUE(file.good());
  }

  WaitingFiles files_;
  HandClock clock_;
  StoreOptions options_;
  const TempFolder folder_;
  const std::string dir_ = folder_.path();
  std::unique_ptr<env::Executor> reply_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, D09_AppendSealLinkRead) {
  const std::string text = Pattern(3 * kChunkBytes + 17);
  auto upload = Create(Spec(1, true));
  EXPECT_EQ(*Append(*upload, 0, text.substr(0, 100'000)), 100'000u);
  EXPECT_EQ(*Append(*upload, 100'000, text.substr(100'000)), text.size());
  EXPECT_EQ(upload->length(), text.size());
  EXPECT_FALSE(upload->sealed());
  const Sealed expected{text.size(), ChecksumOf(text), DigestOf(text)};
  EXPECT_EQ(*Seal(*upload, {.length = text.size(), .digest = DigestOf(text), .checksum = ChecksumOf(text)}),
            expected);
  EXPECT_TRUE(upload->sealed());
  EXPECT_EQ(upload->durable_length(), text.size());
  EXPECT_EQ(*Seal(*upload), expected);
  EXPECT_EQ(ReadAll(1), text);  // sealed stages are read too

  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  store_->LinksEntered(kDefaultGroup);
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
  EXPECT_THAT(StageFolder(), ElementsAre());
  EXPECT_EQ(**store_->SealedState(kDefaultGroup, Id(1)), expected);
  EXPECT_EQ(ReadAll(1), text);
  Open();
  EXPECT_EQ(**store_->SealedState(kDefaultGroup, Id(1)), expected);
  EXPECT_EQ(ReadAll(1), text);
}

TEST_F(StoreTest, K6_F70_AContentIsNeverReplacedByOtherBytesUnderItsId) {
  Put(1, "the bytes that were published");
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Create(Spec(1)).status()));
  Open();
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Create(Spec(1)).status())) << "after a restart, too";
  // A stage that came beside it nevertheless, sealed: it is neither read nor linked.
  auto upload = Create(Spec(1), true);
  ASSERT_TRUE(Append(*upload, 0, "other").ok());
  ASSERT_TRUE(Seal(*upload).ok());
  EXPECT_EQ(ReadAll(1), "the bytes that were published");
  EXPECT_EQ((*store_->SealedState(kDefaultGroup, Id(1)))->length, 29u);
  const Sealed published{29, ChecksumOf("the bytes that were published"), {}};
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1), published).ok());
  EXPECT_EQ(ReadAll(1), "the bytes that were published");
}

TEST_F(StoreTest, K6_OnlyTheBytesThatTheLogNamesAreLinkedAndRead) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  const Sealed held = *Seal(*upload);
  for (const Sealed& other :
       {Sealed{6, held.checksum, {}}, Sealed{5, held.checksum ^ 1, {}}, Sealed{0, 0, {}}}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Link(kDefaultGroup, Id(1), other)));
    EXPECT_TRUE(absl::IsDataLoss(store_->OpenSource(kDefaultGroup, Id(1), other).status()));
  }
  EXPECT_TRUE(store_->OpenSource(kDefaultGroup, Id(1), held).ok());
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1), held).ok());
  for (const bool restarted : {false, true}) {
    if (restarted) Open();
    EXPECT_TRUE(
        absl::IsFailedPrecondition(store_->Link(kDefaultGroup, Id(1), Sealed{5, held.checksum ^ 1, {}})));
    EXPECT_TRUE(
        absl::IsDataLoss(store_->OpenSource(kDefaultGroup, Id(1), Sealed{6, held.checksum, {}}).status()));
    EXPECT_TRUE(store_->OpenSource(kDefaultGroup, Id(1), held).ok());
    ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1), held).ok());
  }
}

TEST_F(StoreTest, K13_AStageThatIsAbortedWhileItIsSealedIsNotSaidToBeDurable) {
  for (const std::string& ending : {ContentPath(1) + kStageSuffix, "/stage/" + Id(1).ToHex()}) {
    auto upload = Create(Spec(1));
    ASSERT_TRUE(Append(*upload, 0, "hello").ok());
    EXPECT_EQ(upload->state(), StageState::kOpen);
    files_.Hold(ending);
    std::promise<absl::Status> ended;
    upload->Seal({}, reply_.get(), [&](absl::StatusOr<Sealed> sealed) { ended.set_value(sealed.status()); });
    EXPECT_EQ(upload->state(), StageState::kSealing);
    files_.AwaitOne();
    EXPECT_EQ(upload->state(), StageState::kSealing);
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Link(kDefaultGroup, Id(1))));
    upload->Abort();
    files_.LetGo();
    EXPECT_TRUE(absl::IsFailedPrecondition(ended.get_future().get())) << ending;
    EXPECT_EQ(upload->state(), StageState::kDropped);
    EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
    EXPECT_TRUE(absl::IsNotFound(store_->Link(kDefaultGroup, Id(1))));
  }
}

TEST_F(StoreTest, D10_OnlyTheLogDropsASealedStage) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  ASSERT_TRUE(Seal(*upload).ok());
  upload->Abort();
  EXPECT_EQ(upload->state(), StageState::kSealed);
  EXPECT_NE(store_->Find(kDefaultGroup, Id(1)), nullptr);
  upload->Drop();
  EXPECT_EQ(upload->state(), StageState::kDropped);
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
}

TEST_F(StoreTest, K13_AStageIsInOneStateAtATime) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  options_.reserve_bytes = 0;
  ASSERT_TRUE(Seal(*upload).ok());
  EXPECT_EQ(upload->state(), StageState::kSealed);
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  EXPECT_EQ(upload->state(), StageState::kLinked);
  upload->Abort();
  EXPECT_EQ(upload->state(), StageState::kLinked) << "only the log takes a content away";
  EXPECT_EQ(ReadAll(1), "hello");
}

TEST_F(StoreTest, K16_AStageThatRestsHoldsNoFilesAndDoesNotCount) {
  options_.uploads_max = 2;
  Open();
  const std::string text = Pattern(3 * kChunkBytes + 77);
  for (uint64_t call = 1; call <= 20; ++call) {
    auto upload = Create(Spec(call, call == 1));
    ASSERT_TRUE(Append(*upload, 0, text.substr(0, kChunkBytes + 5)).ok());
    EXPECT_GE(OpenFilesUnder(dir_), 2u);
    upload->Rest();
    EXPECT_EQ(*Flush(*upload), kChunkBytes + 5);  // behind it in the queue, and in need of no file
    EXPECT_EQ(OpenFilesUnder(dir_), 0u) << call;
  }
  EXPECT_EQ(store_->Stages().size(), 20u);
  // Each goes on where it was.
  for (uint64_t call = 1; call <= 20; ++call) {
    auto upload = store_->Find(kDefaultGroup, Id(call));
    ASSERT_NE(upload, nullptr);
    EXPECT_EQ(upload->length(), kChunkBytes + 5);
    ASSERT_TRUE(Append(*upload, kChunkBytes + 5, text.substr(kChunkBytes + 5)).ok());
    const auto sealed = Seal(*upload, {.length = text.size(), .checksum = ChecksumOf(text)});
    ASSERT_TRUE(sealed.ok()) << sealed.status();
    if (call == 1) {
      EXPECT_EQ(sealed->digest, DigestOf(text));
    }
  }
  EXPECT_EQ(OpenFilesUnder(dir_), 0u);
}

TEST_F(StoreTest, K16_OfTooManyStagesTheOneThatRestedLongestGivesWay) {
  options_.stages_max = 3;
  Open();
  for (uint64_t call = 1; call <= 3; ++call) {
    clock_.now += std::chrono::seconds(1);
    auto upload = Create(Spec(call));
    ASSERT_TRUE(Append(*upload, 0, "hello").ok());
    if (call == 1) {
      ASSERT_TRUE(Seal(*upload).ok());  // only the log takes it away
    }
    upload->Rest();
    ASSERT_TRUE(Flush(*upload).ok());
  }
  Create(Spec(4));
  EXPECT_NE(store_->Find(kDefaultGroup, Id(1)), nullptr);
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(2)), nullptr);
  EXPECT_NE(store_->Find(kDefaultGroup, Id(3)), nullptr);
  Create(Spec(5));
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(3)), nullptr);
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Create(Spec(6)).status()));
}

TEST_F(StoreTest, EmptyBlob) {
  Put(1, "");
  EXPECT_EQ((*store_->SealedState(kDefaultGroup, Id(1)))->length, 0u);
  EXPECT_EQ(ReadAll(1), "");
}

TEST_F(StoreTest, D07_ManyAppendsInFlightAreAnsweredInOrder) {
  for (const bool digest : {false, true}) {
    const uint64_t call = digest ? 2 : 1;
    auto upload = Create(Spec(call, digest));
    const std::string text = Pattern(5 << 20);
    std::vector<uint64_t> answers;  // reply thread, then read after the last answer
    std::promise<void> all;
    const size_t piece = 100'000;
    for (size_t at = 0; at < text.size(); at += piece) {
      upload->Append(at, Bytes::Copy(text.substr(at, piece)), reply_.get(),
                     [&](absl::StatusOr<uint64_t> length) {
                       answers.push_back(length.ok() ? *length : 0);
                       if (answers.size() == (text.size() + piece - 1) / piece) all.set_value();
                     });
    }
    all.get_future().get();
    EXPECT_TRUE(std::is_sorted(answers.begin(), answers.end()));
    EXPECT_EQ(answers.front(), piece);
    EXPECT_EQ(answers.back(), text.size());
    EXPECT_TRUE(Seal(*upload).ok());
    EXPECT_EQ(ReadAll(call), text);
  }
}

TEST_F(StoreTest, BrokenBuild_WrongOffsetIsRefusedAndWritesNothing) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  for (const uint64_t offset : {0u, 4u, 6u}) {
    EXPECT_EQ(Append(*upload, offset, "x").status().code(), absl::StatusCode::kInvalidArgument) << offset;
  }
  EXPECT_EQ(upload->length(), 5u);
  EXPECT_EQ(*Append(*upload, 5, " world"), 11u);
  EXPECT_TRUE(Seal(*upload).ok());
  EXPECT_EQ(ReadAll(1), "hello world");
}

TEST_F(StoreTest, WrongOffsetWithinABurstStopsWhatFollowsIt) {
  auto upload = Create(Spec(1));
  std::vector<absl::StatusCode> codes;
  auto note = [&](absl::StatusOr<uint64_t> length) { codes.push_back(length.status().code()); };
  upload->Append(0, Bytes::Copy("aa"), reply_.get(), note);
  upload->Append(3, Bytes::Copy("cc"), reply_.get(), note);
  upload->Append(5, Bytes::Copy("dd"), reply_.get(), note);
  EXPECT_EQ(*Append(*upload, 2, "bb"), 4u);
  using enum absl::StatusCode;
  EXPECT_THAT(codes, ElementsAre(kOk, kInvalidArgument, kInvalidArgument));
}

TEST_F(StoreTest, SealThatExpectsSomethingElseDropsTheStage) {
  const std::vector<SealExpectation> wrong = {{.length = 4}, {.digest = DigestOf("other")}, {.checksum = 1}};
  for (const SealExpectation& expected : wrong) {
    auto upload = Create(Spec(1, true));
    ASSERT_TRUE(Append(*upload, 0, "hello").ok());
    EXPECT_EQ(Seal(*upload, expected).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
    EXPECT_EQ(Append(*upload, 5, "x").status().code(), absl::StatusCode::kFailedPrecondition);
    ASSERT_TRUE(store_->SyncLinks().ok());
    EXPECT_THAT(StageFolder(), ElementsAre());
  }
}

TEST_F(StoreTest, D09_ReplicasDoNotComputeOrCompareDigests) {
  auto upload = Create(Spec(1, false));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  auto sealed = Seal(*upload, {.digest = DigestOf("other")});
  ASSERT_TRUE(sealed.ok()) << sealed.status();
  EXPECT_EQ(sealed->digest, std::nullopt);
}

TEST_F(StoreTest, CallsAfterSealAndAbortAreRefused) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  EXPECT_EQ(store_->Link(kDefaultGroup, Id(1)).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Seal(*upload).ok());
  EXPECT_EQ(Append(*upload, 5, "x").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*Flush(*upload), 5u);
  EXPECT_EQ(Seal(*upload, {.length = 4}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(upload->sealed());  // final: the wrong expectation changed nothing
  upload->Drop();
  EXPECT_EQ(store_->Find(kDefaultGroup, Id(1)), nullptr);
  EXPECT_EQ(Seal(*upload).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Link(kDefaultGroup, Id(1)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*store_->SealedState(kDefaultGroup, Id(1)), std::nullopt);
}

TEST_F(StoreTest, AbortFreesTheIdAtOnce) {
  for (int round = 0; round < 20; ++round) {
    auto upload = Create(Spec(1));
    ASSERT_TRUE(Append(*upload, 0, Pattern(1000, static_cast<uint32_t>(round))).ok());
    upload->Abort();
    EXPECT_EQ(Append(*upload, 1000, "x").status().code(), absl::StatusCode::kFailedPrecondition);
  }
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "last").ok());
  ASSERT_TRUE(Seal(*upload).ok());
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_EQ(ReadAll(1), "last");
}

TEST_F(StoreTest, AbortOfALinkedUploadDoesNothing) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  ASSERT_TRUE(Seal(*upload).ok());
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  upload->Abort();
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_EQ(ReadAll(1), "hello");
}

TEST_F(StoreTest, D10_StagesOutliveARestart) {
  const std::string text = Pattern(2 * kChunkBytes + 500);
  for (const bool digest : {false, true}) {
    const uint64_t call = digest ? 2 : 1;
    auto upload = Create(Spec(call, digest));
    ASSERT_TRUE(Append(*upload, 0, text.substr(0, kChunkBytes + 9)).ok());
    EXPECT_EQ(upload->durable_length(), 0u);
    EXPECT_EQ(*Flush(*upload), kChunkBytes + 9);
    EXPECT_EQ(upload->durable_length(), kChunkBytes + 9);
    ASSERT_TRUE(Append(*upload, kChunkBytes + 9, "not flushed").ok());
    upload.reset();
    clock_.now += std::chrono::seconds(5);
    Open();
    upload = store_->Find(kDefaultGroup, Id(call));
    ASSERT_NE(upload, nullptr);
    EXPECT_EQ(upload->spec().context, "header");
    EXPECT_EQ(upload->spec().epoch, 3u);
    EXPECT_EQ(upload->spec().group, kDefaultGroup);
    EXPECT_EQ(upload->last_progress(), clock_.now);
    EXPECT_EQ(upload->length(), kChunkBytes + 9);
    EXPECT_EQ(*Flush(*upload), kChunkBytes + 9);
    ASSERT_TRUE(Append(*upload, kChunkBytes + 9, text.substr(kChunkBytes + 9)).ok());
    auto sealed = Seal(*upload, {.checksum = ChecksumOf(text)});
    ASSERT_TRUE(sealed.ok()) << sealed.status();
    EXPECT_EQ(sealed->digest.has_value(), digest);
    if (digest) {
      EXPECT_EQ(*sealed->digest, DigestOf(text));
    }
    Open();
    upload = store_->Find(kDefaultGroup, Id(call));
    ASSERT_NE(upload, nullptr);
    EXPECT_TRUE(upload->sealed());
    EXPECT_EQ(*Seal(*upload), *sealed);
    EXPECT_EQ(ReadAll(call), text);
    ASSERT_TRUE(store_->Link(kDefaultGroup, Id(call)).ok());
  }
}

TEST_F(StoreTest, RestartBetweenLinkAndSyncKeepsTheContent) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  ASSERT_TRUE(Seal(*upload).ok());
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  Open();
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_EQ(ReadAll(1), "hello");
}

TEST_F(StoreTest, K6_WhatAnotherGroupHasUnderAnIdIsNotThere) {
  const GroupId other{{7}};
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  const auto sealed = Seal(*upload);
  ASSERT_TRUE(sealed.ok());
  UploadSpec theirs = Spec(1);
  theirs.group = other;
  const auto expect_apart = [&] {
    EXPECT_EQ(store_->Find(other, Id(1)), nullptr);
    EXPECT_TRUE(absl::IsNotFound(store_->OpenSource(other, Id(1), *sealed).status()));
    const auto state = store_->SealedState(other, Id(1));
    EXPECT_TRUE(state.ok() && !state->has_value());
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Link(other, Id(1), *sealed)));
    for (const bool replace : {false, true}) {
      EXPECT_TRUE(absl::IsAlreadyExists(store_->Create(theirs, replace).status())) << replace;
    }
  };
  expect_apart();
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1), *sealed).ok());
  expect_apart();
  EXPECT_EQ(ReadAll(1), "hello");
}

// K14: the entry that made a link is perhaps never applied again, so the store itself remembers it.
TEST_F(StoreTest, K14_LinksAreRememberedUntilTheIndexKnowsThem) {
  const GroupId other{{7}};
  for (const uint64_t call : {1u, 2u, 3u}) {
    UploadSpec spec = Spec(call);
    if (call == 3) spec.group = other;
    auto upload = Create(spec);
    ASSERT_TRUE(Append(*upload, 0, "hello").ok());
    ASSERT_TRUE(Seal(*upload).ok());
    ASSERT_TRUE(store_->Link(spec.group, Id(call)).ok());
  }
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_THAT(store_->LinksNotEntered(kDefaultGroup), ElementsAre(Id(1), Id(2)));
  Open();
  EXPECT_THAT(store_->LinksNotEntered(kDefaultGroup), ElementsAre(Id(1), Id(2)));
  EXPECT_THAT(store_->LinksNotEntered(other), ElementsAre(Id(3)));
  EXPECT_EQ(store_->Stages().size(), 0u);
  ASSERT_TRUE(store_->Remove(Id(1)).ok());
  EXPECT_THAT(store_->LinksNotEntered(kDefaultGroup), ElementsAre(Id(2)));
  store_->LinksEntered(kDefaultGroup);
  EXPECT_THAT(store_->LinksNotEntered(kDefaultGroup), ElementsAre());
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_THAT(StageFolder(), ElementsAre(Id(3).ToHex()));
  Open();
  EXPECT_THAT(store_->LinksNotEntered(kDefaultGroup), ElementsAre());
  EXPECT_THAT(store_->LinksNotEntered(other), ElementsAre(Id(3)));
  EXPECT_EQ(ReadAll(2), "hello");
  EXPECT_TRUE(store_->OpenSource(other, Id(3)).ok());
}

TEST_F(StoreTest, TornSideFileGoesBackToTheRecordBefore) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  ASSERT_TRUE(Flush(*upload).ok());
  ASSERT_TRUE(Append(*upload, 5, " world").ok());
  ASSERT_TRUE(Flush(*upload).ok());
  upload.reset();
  store_.reset();
  const std::string side = dir_ + "/blob/stage/" + Id(1).ToHex();
  fs::resize_file(side, fs::file_size(side) - 1);
  Open();
  upload = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(upload, nullptr);
  EXPECT_EQ(upload->length(), 5u);
  ASSERT_TRUE(Append(*upload, 5, "!").ok());
  ASSERT_TRUE(Flush(*upload).ok());
  Open();
  upload = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(upload, nullptr);
  ASSERT_TRUE(Seal(*upload, {.length = 6}).ok());
  EXPECT_EQ(ReadAll(1), "hello!");
}

TEST_F(StoreTest, FooterInThePayloadDoesNotSealAStage) {
  // What a client could send in order to be believed after a crash:
  // a valid footer with a digest that is not true.
  ChunkList chunks;
  chunks.Extend(Bytes::Copy("forged"));
  const Footer footer{Id(1), kDefaultGroup, 3, {6, chunks.Checksum(), DigestOf("something else")}};
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "forged" + EncodeFooter(footer, chunks)).ok());
  ASSERT_TRUE(Flush(*upload).ok());
  upload.reset();
  Open();
  upload = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(upload, nullptr);
  EXPECT_FALSE(upload->sealed());
  EXPECT_EQ(upload->length(), 6 + 4 + kTrailerBytes);
  EXPECT_EQ(*store_->SealedState(kDefaultGroup, Id(1)), std::nullopt);
}

TEST_F(StoreTest, LeftoversAreRemovedAndForeignFilesKept) {
  const std::string stage = dir_ + "/blob/stage/";
  store_.reset();
  fs::create_directories(fs::path(ContentPath(2)).parent_path());
  std::ofstream(stage + Id(1).ToHex()) << "side file without data";
  std::ofstream(ContentPath(2) + kStageSuffix) << "data";
  std::ofstream(stage + Id(2).ToHex()) << "SLUS";
  std::ofstream(stage + "README") << "mine";
  Open();
  EXPECT_TRUE(store_->Stages().empty());
  EXPECT_FALSE(fs::exists(ContentPath(2) + kStageSuffix));
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_THAT(StageFolder(), ElementsAre("README"));
}

TEST_F(StoreTest, ReadRangesAndTheirLimits) {
  const std::string text = Pattern(3 * kChunkBytes + 17);
  Put(1, text);
  auto source = store_->OpenSource(kDefaultGroup, Id(1));
  ASSERT_TRUE(source.ok());
  EXPECT_EQ((*source)->length(), text.size());
  const uint64_t edges[] = {
      0, 1, kChunkBytes - 1, kChunkBytes, kChunkBytes + 1, 3 * kChunkBytes, text.size() - 1};
  for (const uint64_t offset : edges) {
    for (const uint64_t count : {uint64_t{0}, uint64_t{1}, kChunkBytes, 2 * kChunkBytes + 5, kReadBytesMax}) {
      auto data = Read(**source, offset, count);
      ASSERT_TRUE(data.ok()) << data.status();
      EXPECT_TRUE(*data == text.substr(offset, count)) << count << " at " << offset;
    }
  }
  EXPECT_EQ(Read(**source, text.size(), 1)->size(), 0u);
  EXPECT_EQ(Read(**source, text.size() + 1, 1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Read(**source, ~uint64_t{0}, 1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Read(**source, 0, kReadBytesMax + 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->OpenSource(kDefaultGroup, Id(9)).status().code(), absl::StatusCode::kNotFound);
}

// The checksum is not asked: what the memory held before may be the right bytes.
TEST_F(StoreTest, F24_AFileThatLostItsEndSaysWhereItEnds) {
  Put(1, Pattern(2 * kChunkBytes));
  auto source = store_->OpenSource(kDefaultGroup, Id(1));
  ASSERT_TRUE(source.ok());
  fs::resize_file(ContentPath(1), kChunkBytes + 100);
  const absl::Status damage = Read(**source, kChunkBytes, 10).status();
  EXPECT_TRUE(absl::IsDataLoss(damage));
  EXPECT_THAT(std::string(damage.message()), HasSubstr(fmt::format("ends at {}", kChunkBytes + 100)));
}

TEST_F(StoreTest, D15_AnUploadIsReadWhileItGrowsAndOnceItIsSealed) {
  const std::string text = Pattern(200'000);
  auto upload = Create(Spec(1));
  const auto read = [&](uint64_t offset, uint64_t count) {
    return Wait<Bytes>([&](auto* on, auto done) { upload->Read(offset, count, on, std::move(done)); });
  };
  EXPECT_EQ(read(0, 10).value().ToString(), "");
  ASSERT_TRUE(Append(*upload, 0, text.substr(0, 100'001)).ok());
  EXPECT_TRUE(read(0, 100'001).value().ToString() == text.substr(0, 100'001));
  EXPECT_TRUE(read(65'530, 100).value().ToString() == text.substr(65'530, 100));
  EXPECT_EQ(read(100'001, 1).value().ToString(), "");
  EXPECT_TRUE(absl::IsOutOfRange(read(100'002, 1).status()));
  ASSERT_TRUE(Append(*upload, 100'001, text.substr(100'001)).ok());
  EXPECT_TRUE(read(99'999, 1 << 20).value().ToString() == text.substr(99'999));
  ASSERT_TRUE(Seal(*upload).ok());
  EXPECT_TRUE(read(7, 1 << 20).value().ToString() == text.substr(7));
  ASSERT_TRUE(store_->Link(kDefaultGroup, Id(1)).ok());
  EXPECT_TRUE(read(7, 100).value().ToString() == text.substr(7, 100)) << "a reader under way goes on";
  auto dropped = Create(Spec(2));
  dropped->Abort();
  upload = dropped;
  EXPECT_TRUE(absl::IsFailedPrecondition(read(0, 1).status()));
}

TEST_F(StoreTest, D15_F24_ADamagedStageIsNotReadOn) {
  const std::string text = Pattern(200'000);
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, text).ok());
  ASSERT_TRUE(Flush(*upload).ok());
  FlipBit(ContentPath(1) + ".stage", 70'000);
  const auto read = [&](uint64_t offset, uint64_t count) {
    return Wait<Bytes>([&](auto* on, auto done) { upload->Read(offset, count, on, std::move(done)); });
  };
  EXPECT_TRUE(read(0, 65'536).ok());
  EXPECT_TRUE(absl::IsDataLoss(read(65'536, 10).status()));
}

TEST_F(StoreTest, ReadAcrossSeveralPieces) {
  const std::string text = Pattern(5 * (1 << 20) + 4321);
  Put(1, text);
  EXPECT_EQ(ReadAll(1), text);
  auto source = store_->OpenSource(kDefaultGroup, Id(1));
  EXPECT_TRUE(*Read(**source, 12'345, 3 << 20) == text.substr(12'345, 3 << 20));
}

TEST_F(StoreTest, F24_BitFlipIsFoundBeforeAByteGoesOut) {
  const std::string text = Pattern(3 * kChunkBytes);
  Put(1, text);
  FlipBit(ContentPath(1), kChunkBytes + 100);
  auto source = store_->OpenSource(kDefaultGroup, Id(1));
  ASSERT_TRUE(source.ok());
  EXPECT_TRUE(*Read(**source, 0, 10) == text.substr(0, 10));  // other chunks are fine
  const absl::Status damage = Read(**source, kChunkBytes + 5000, 10).status();
  EXPECT_EQ(damage.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(damage.ToString(), HasSubstr(ContentPath(1)));
  EXPECT_THAT(damage.ToString(), HasSubstr("65536"));
  EXPECT_EQ(store_->stats().damaged_chunks, 1u);
  EXPECT_THAT(store_->TakeDamaged(), ElementsAre(Id(1)));
  EXPECT_THAT(store_->TakeDamaged(), ElementsAre());

  // The repaired copy is linked over the damaged one; the open source goes on with the old file.
  Put(1, text, true);
  EXPECT_EQ(ReadAll(1), text);
  EXPECT_EQ(Read(**source, kChunkBytes, 10).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTest, F24_BitFlipInTheFooterIsFoundOnOpen) {
  const std::string text = Pattern(3 * kChunkBytes);
  Put(1, text);
  const uint64_t size = fs::file_size(ContentPath(1));
  for (uint64_t offset = text.size(); offset < size; ++offset) {
    FlipBit(ContentPath(1), offset);
    EXPECT_EQ(store_->OpenSource(kDefaultGroup, Id(1)).status().code(), absl::StatusCode::kDataLoss)
        << offset;
    FlipBit(ContentPath(1), offset);
  }
  EXPECT_THAT(store_->TakeDamaged(), ElementsAre(Id(1)));
  EXPECT_EQ(ReadAll(1), text);
}

TEST_F(StoreTest, F24_TruncatedContentIsDataLoss) {
  Put(1, Pattern(3 * kChunkBytes));
  fs::resize_file(ContentPath(1), kChunkBytes);
  EXPECT_EQ(store_->OpenSource(kDefaultGroup, Id(1)).status().code(), absl::StatusCode::kDataLoss);
  fs::resize_file(ContentPath(1), 0);
  EXPECT_EQ(store_->OpenSource(kDefaultGroup, Id(1)).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTest, ContentOfAnotherUploadUnderThisNameIsDataLoss) {
  Put(1, "one");
  Put(2, "two");
  fs::copy_file(ContentPath(2), ContentPath(1), fs::copy_options::overwrite_existing);
  EXPECT_EQ(store_->OpenSource(kDefaultGroup, Id(1)).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTest, DamagedStageIsNotContinued) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  ASSERT_TRUE(Flush(*upload).ok());
  upload.reset();
  store_.reset();
  FlipBit(ContentPath(1) + kStageSuffix, 2);
  Open();
  upload = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(upload, nullptr);
  EXPECT_EQ(Append(*upload, 5, "x").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Append(*upload, 5, "x").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(StoreTest, D18_RemovedContentStaysReadableByOpenSources) {
  const std::string text = Pattern(200'000);
  Put(1, text);
  auto source = store_->OpenSource(kDefaultGroup, Id(1));
  ASSERT_TRUE(source.ok());
  ASSERT_TRUE(store_->Remove(Id(1)).ok());
  ASSERT_TRUE(store_->Remove(Id(1)).ok());
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_FALSE(fs::exists(ContentPath(1)));
  EXPECT_EQ(store_->OpenSource(kDefaultGroup, Id(1)).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(*Read(**source, 0, text.size()) == text);
}

TEST_F(StoreTest, F27_ProgressIsWhatTheTimeToLiveIsMeasuredFrom) {
  auto upload = Create(Spec(1));
  EXPECT_EQ(upload->last_progress(), clock_.now);
  clock_.now += std::chrono::seconds(1);
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  EXPECT_EQ(upload->last_progress(), clock_.now);
  const env::Instant before = clock_.now;
  clock_.now += std::chrono::seconds(1);
  EXPECT_FALSE(Append(*upload, 0, "again").ok());
  EXPECT_TRUE(Flush(*upload).ok());
  EXPECT_EQ(upload->last_progress(), before);  // neither a refusal nor a question is progress
}

TEST_F(StoreTest, F28_UploadsLeaveTheReserve) {
  auto upload = Create(Spec(1));
  ASSERT_TRUE(Append(*upload, 0, "hello").ok());
  ASSERT_TRUE(Flush(*upload).ok());
  upload.reset();
  options_.reserve_bytes = uint64_t{1} << 62;
  Open();
  upload = store_->Find(kDefaultGroup, Id(1));
  ASSERT_NE(upload, nullptr);
  EXPECT_EQ(Append(*upload, 5, "x").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store_->Create(Spec(2)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(upload->length(), 5u);
  options_.reserve_bytes = 0;
  Open();
  upload = store_->Find(kDefaultGroup, Id(1));
  EXPECT_EQ(*Append(*upload, 5, "x"), 6u);  // space came back
}

TEST_F(StoreTest, QueueOfAnUploadIsBounded) {
  options_.queue_bytes = 1 << 20;
  Open();
  auto upload = Create(Spec(1));
  EXPECT_EQ(Append(*upload, 0, Pattern(1 << 20)).status().code(), absl::StatusCode::kResourceExhausted);
  const std::string text = Pattern(1 << 19);
  EXPECT_EQ(*Append(*upload, 0, text), text.size());
  EXPECT_EQ(*Append(*upload, text.size(), text), 2 * text.size());  // room is given back
}

TEST_F(StoreTest, InspectShowsWhatIsThereAndWhatIsDamaged) {
  Put(1, Pattern(100'000));
  Put(2, Pattern(200'000));
  FlipBit(ContentPath(2), 150'000);
  auto open = Create(Spec(3));
  ASSERT_TRUE(Append(*open, 0, "hello").ok());
  ASSERT_TRUE(Flush(*open).ok());
  auto sealed = Create(Spec(4));
  ASSERT_TRUE(Append(*sealed, 0, "sealed").ok());
  ASSERT_TRUE(Seal(*sealed).ok());
  store_.reset();
  std::ofstream(dir_ + "/blob/stage/README") << "mine";
  std::vector<std::string> lines;
  ASSERT_TRUE(InspectBlobs(env::RealFiles(), dir_ + "/blob", [&](const InspectedBlob& blob) {
                lines.push_back(fmt::format("{} {} {} {}", blob.id ? blob.id->call.value : 0,
                                            BlobKindName(blob.kind), blob.length, blob.verified.ok()));
              }).ok());
  EXPECT_THAT(lines, ::testing::UnorderedElementsAre("3 open stage 5 true", "4 sealed stage 6 true",
                                                     "0 unknown file 0 true", "1 content 100000 true",
                                                     "2 content 200000 false"));
}

TEST_F(StoreTest, NumberOfStagesAndContextAreBounded) {
  options_.uploads_max = 2;
  Open();
  auto first = Create(Spec(1));
  auto second = Create(Spec(2));
  EXPECT_EQ(store_->Create(Spec(3)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store_->Stages().size(), 2u);
  EXPECT_EQ(store_->stats().stages, 2u);
  first->Abort();
  ASSERT_TRUE(store_->SyncLinks().ok());
  EXPECT_EQ(store_->Create(Spec(2)).status().code(), absl::StatusCode::kAlreadyExists);
  UploadSpec large = Spec(3);
  large.context = std::string(kContextBytesMax + 1, 'x');
  EXPECT_EQ(store_->Create(large).status().code(), absl::StatusCode::kInvalidArgument);
  large.context.pop_back();
  EXPECT_TRUE(store_->Create(large).ok());
}

}  // namespace
}  // namespace sluice::blob
