#include "node/disk_room.h"

#include <limits>
#include <utility>

namespace sluice::node {
namespace {

constexpr env::Duration kAskedEvery = std::chrono::milliseconds(100);
constexpr uint64_t kAskedEveryBytes = 16u << 20;
// What a write takes beside its bytes, in the log, in the index and in the next table of the index.
constexpr uint64_t kCostFactor = 3;
constexpr uint64_t kSmallBytes = 4096;

uint64_t FreeOr(absl::StatusOr<uint64_t> free) {
  return free.ok() ? *free : std::numeric_limits<uint64_t>::max();
}

}  // namespace

DiskRoom::DiskRoom(env::Files& files, env::Executor& disk, const env::Clock& clock, std::string dir,
                   uint64_t reserve_bytes)
    : files_(files),
      disk_(disk),
      clock_(clock),
      dir_(std::move(dir)),
      reserve_bytes_(reserve_bytes),
      free_bytes_(FreeOr(files.FreeBytes(dir_))),
      asked_at_(clock.MonotonicNow().count()) {}

absl::Status DiskRoom::Admit(uint64_t bytes) {
  if (reserve_bytes_ == 0) return absl::OkStatus();
  const uint64_t admitted = admitted_bytes_ + bytes;
  const env::Instant asked_at(asked_at_.load());
  if (admitted >= kAskedEveryBytes || clock_.MonotonicNow() - asked_at >= kAskedEvery) Ask();
  const uint64_t reserve = bytes <= kSmallBytes ? reserve_bytes_ / 2 : reserve_bytes_;
  const uint64_t free = free_bytes_;
  if (free >= reserve && (free - reserve) / kCostFactor >= admitted) {
    admitted_bytes_ += bytes;
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(fmt::format(
      "{}: {} bytes free, {} are reserved for removals and for what is under way: remove something", dir_,
      free, reserve));
}

bool DiskRoom::Short() {
  if (reserve_bytes_ == 0) return false;
  if (clock_.MonotonicNow() - env::Instant(asked_at_.load()) >= kAskedEvery) Ask();
  return free_bytes_ < reserve_bytes_;
}

void DiskRoom::Ask() {
  if (asking_.exchange(true)) return;
  disk_.Post([this, before = admitted_bytes_.load()] {
    free_bytes_ = FreeOr(files_.FreeBytes(dir_));
    admitted_bytes_ -= before;  // by now it is on the disk, or soon
    asked_at_ = clock_.MonotonicNow().count();
    asking_ = false;
  });
}

}  // namespace sluice::node
