// Small blobs by the million: fills a stopped server with them, and puts and reads them through running ones.
//
//   names fill INDEX_DIR GROUP_ID COUNT       INDEX_DIR is index/ of a server's data folder
//   names put SERVERS FIRST COUNT             names FIRST to FIRST + COUNT - 1, of 64 bytes each
//   names get SERVERS NAMES COUNT             COUNT reads of names drawn from the first NAMES
//
// What `fill` writes is what the blob machine itself makes of so many puts: the machine's own code runs, on the
// index, without the log. put and get run 16 at a time and print one line of JSON: calls a second, latencies.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "blob/chunks.h"
#include "blob/index.h"
#include "node/blob_machine.h"
#include "node/machine_state.h"
#include "sluice/blob.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kAtOnce = 16;
constexpr uint64_t kBatch = 1'000;
constexpr size_t kContentBytes = 64;
constexpr uint64_t kTold = 1'000'000;

// Bytes that look random and follow from `seed`.
std::string Noise(uint64_t seed, size_t bytes) {
  std::string out;
  for (uint64_t state = seed;
       out.size() < bytes;) {  // splitmix64: a generator of its own costs more than a put
    uint64_t value = state += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    value ^= value >> 31;
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  out.resize(bytes);
  return out;
}

std::string NameOf(uint64_t i) {
  return fmt::format("build/{:02x}/artifact-{:016x}.o", i % 251, i * 0x9e3779b97f4a7c15);
}
Bytes ContentOf(uint64_t i) { return Bytes::Take(Noise(i, kContentBytes)); }

template <typename T>
T Need(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  fmt::print(stderr, "{}\n", std::string(value.status().message()));
  std::exit(1);
}
void Need(const absl::Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}\n", std::string(status.message()));
  std::exit(1);
}

Command Publish(uint64_t i) {
  const std::string bytes = Noise(i, kContentBytes);
  const Bytes content = Bytes::Copy(bytes);
  blob::ChunkList chunks;
  chunks.Extend(content);
  DigestBuilder digest;
  digest.Update(bytes);
  node::BlobCommand blob;
  blob.op = node::BlobOp::kPublishInline;
  blob.name = NameOf(i);
  blob.upload = {*ClientId::FromBytes("client-of-a-fill"), CallId{i + 1}};
  blob.sealed = {.length = content.size(), .checksum = chunks.Checksum(), .digest = digest.Finish()};
  blob.stamp_ms = 1'700'000'000'000 + static_cast<int64_t>(i);
  blob.data = content;
  Command command;
  command.at = {Term{1}, Index{static_cast<int64_t>(i + 1)}};
  command.data = node::EncodeBlobCommand(blob);
  return command;
}

int Fill(const std::string& dir, const std::string& group_text, uint64_t count) {
  const auto group = GroupId::Parse(group_text);
  if (!group) return 2;
  const auto index = Need(blob::OpenRocksIndex(env::RealFiles(), dir));
  node::MachineState state(index.get(), "g" + std::string(group->AsBytes()) + "s");
  node::BlobMachine machine;
  for (uint64_t i = 0; i < count;) {
    for (const uint64_t end = std::min(i + kBatch, count); i < end; ++i) {
      Need(machine.Apply(Publish(i), state).status());
    }
    Need(state.status());
    blob::IndexBatch batch;
    state.MoveChangesTo(batch);
    Need(index->Write(batch));
    (void)machine.TakeChanges();
    if (i % kTold == 0) fmt::print(stderr, "{} of {} names\n", i, count);
  }
  Need(index->Flush());
  return 0;
}

// Runs `call` for 0 to count - 1, kAtOnce at a time.
template <typename Call>
int Measure(uint64_t count, Call call) {
  std::atomic<uint64_t> next{0};
  std::vector<double> took_ms(count);
  std::vector<std::thread> threads;
  const auto start = Clock::now();
  for (uint64_t t = 0; t < kAtOnce; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = next++; i < count; i = next++) {
        const auto begin = Clock::now();
        Need(call(i));
        took_ms[i] = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::sort(took_ms.begin(), took_ms.end());
  fmt::print(R"({{"per_second": {:.1f}, "p50_ms": {:.3f}, "p99_ms": {:.3f}}})"
             "\n",
             static_cast<double>(count) / seconds, took_ms[count / 2], took_ms[count * 99 / 100]);
  return 0;
}

int Main(int argc, char** argv) {
  if (argc != 5) return 2;
  const std::string what = argv[1];
  const uint64_t first = std::strtoull(argv[3], nullptr, 10);
  const uint64_t count = std::strtoull(argv[4], nullptr, 10);
  if (count == 0) return 2;
  if (what == "fill") return Fill(argv[2], argv[3], count);
  const std::unique_ptr<BlobClient> client =
      Need(BlobClient::Create({.servers = absl::StrSplit(argv[2], ',')}));
  if (what == "put") {
    return Measure(count, [&](uint64_t i) {
      return client->PutBytes(NameOf(first + i), ContentOf(first + i)).status();
    });
  }
  if (what == "get" && first > 0) {
    std::vector<uint64_t> drawn(count);
    std::mt19937_64 random(std::random_device{}());
    for (uint64_t& one : drawn) one = random() % first;
    return Measure(count, [&](uint64_t i) -> absl::Status {
      const auto got = client->GetBytes(NameOf(drawn[i]));
      if (got.ok() && *got != ContentOf(drawn[i])) return absl::DataLossError(NameOf(drawn[i]) + " is wrong");
      return got.status();
    });
  }
  return 2;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
