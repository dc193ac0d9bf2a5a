// What a put and a get cost the index when it is full of names, beside what they cost in a fresh one.
//
//   index_bench DIR [NAMES]        DIR is made and must not exist; 10,000,000 names take a few minutes
//
// Keys and values have the shapes that the blob machine gives them: a name, its content, its digest, the reply
// that is remembered, the applied index. A put looks for each of them first. One line a point: names, and of
// puts and of gets the rate, the processor time of the calling thread and the bytes read for each; resident
// memory. On a busy machine the last three say more than the rate.
#include <fmt/format.h>
#include <time.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>

#include "blob/index.h"

namespace sluice::blob {
namespace {

constexpr uint64_t kMeasured = 20'000;
constexpr uint64_t kBatch = 16;  // puts that are applied together
constexpr uint64_t kRepliesMax = 131'072;
const std::string kGroup = "g" + std::string(16, 'G');

using Clock = std::chrono::steady_clock;

// Bytes that look random and follow from `seed`.
std::string Noise(uint64_t seed, size_t bytes) {
  std::string out;
  for (uint64_t value = seed; out.size() < bytes;) {
    value = (value + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    value ^= value >> 29;
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  out.resize(bytes);
  return out;
}

std::string NameKey(uint64_t i) {
  return fmt::format("{}sn/build/{:02x}/artifact-{:016x}.o", kGroup, i % 251, i * 0x9e3779b97f4a7c15);
}
std::string ContentKey(uint64_t i) { return kGroup + "sc/" + Noise(i, 24); }
std::string DigestKey(uint64_t i) { return kGroup + "sd/" + Noise(~i, 32); }
std::string AbandonedKey(uint64_t i) { return kGroup + "sx/" + Noise(i, 24); }
std::string ReplyKey(uint64_t i) { return kGroup + "r" + Noise(i, 24); }

void Check(const absl::Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}\n", std::string(status.message()));
  std::exit(1);
}

void Add(IndexBatch& batch, uint64_t i) {
  batch.Put(NameKey(i), Noise(i, 36));
  batch.Put(ContentKey(i), Noise(i + 1, 80));
  batch.Put(DigestKey(i), Noise(i, 24));
  batch.Put(ReplyKey(i), Noise(i + 2, 70));
  if (i >= kRepliesMax) batch.Delete(ReplyKey(i - kRepliesMax));
  batch.Put(kGroup + "a", Noise(i, 100));
}

void Put(Index& index, uint64_t from, uint64_t count, bool look) {
  for (uint64_t i = from; i < from + count;) {
    IndexBatch batch;
    for (uint64_t n = 0; n < kBatch && i < from + count; ++n, ++i) {
      if (look) {
        for (const std::string& key : {AbandonedKey(i), NameKey(i), DigestKey(i), ContentKey(i)}) {
          auto found = index.Get(key);
          Check(found.status());
          if (*found) std::exit(2);
        }
      }
      Add(batch, i);
    }
    Check(index.Write(batch));
  }
}

void Get(Index& index, uint64_t names, uint64_t count) {
  std::mt19937_64 random(names);
  for (uint64_t n = 0; n < count; ++n) {
    const uint64_t i = random() % names;
    for (const std::string& key : {NameKey(i), ContentKey(i)}) {
      auto found = index.Get(key);
      Check(found.status());
      if (!*found) std::exit(3);
    }
  }
}

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

uint64_t BytesRead() {
  std::ifstream file("/proc/self/io");
  std::string word;
  uint64_t bytes = 0;
  file >> word >> bytes;  // rchar: page cache included
  return bytes;
}

template <typename Work>
std::string Measure(const char* what, Work work) {
  const auto start = Clock::now();
  const double thread_start = ThreadSeconds();
  const uint64_t read_start = BytesRead();
  work();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return fmt::format("{} {:>6.0f}/s {:>5.1f} us {:>7.1f} KiB", what, kMeasured / seconds,
                     1e6 * (ThreadSeconds() - thread_start) / kMeasured,
                     static_cast<double>(BytesRead() - read_start) / 1024 / kMeasured);
}

uint64_t ResidentMiB() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096 >> 20;
}

int Main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::string dir = argv[1];
  const uint64_t names_max = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 10'000'000;
  auto index = OpenRocksIndex(env::RealFiles(), dir);
  Check(index.status());
  uint64_t names = 0;
  for (uint64_t goal = 50'000; names < names_max; goal = std::min(goal * 4, names_max)) {
    Put(**index, names, goal - names, false);
    names = goal;
    Check((*index)->Flush());
    const std::string puts = Measure("puts", [&] { Put(**index, names, kMeasured, true); });
    names += kMeasured;
    const std::string gets = Measure("gets", [&] { Get(**index, names, kMeasured); });
    fmt::print("{:>9} names: {}; {}; {} MiB\n", names, puts, gets, ResidentMiB());
    std::fflush(stdout);
    if (goal == names_max) break;
  }
  return 0;
}

}  // namespace
}  // namespace sluice::blob

int main(int argc, char** argv) { return sluice::blob::Main(argc, argv); }
