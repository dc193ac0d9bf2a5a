// How much room the disk has, for those who must not wait to be told (F-12, F-28).
//
//   DiskRoom room(files, disk, clock, data_dir, reserve_bytes);
//   RETURN_IF_ERROR(room.Admit(bytes));     // before a write is proposed
//
// Below the reserve only what frees space is taken: the log needs room for that, the index to become durable.
// Admit counts what it let pass since the disk was last asked; it asks, on the `disk` executor, every 100 ms
// and every 16 MiB, and while the answer is under way goes by what it knows. Threading: any thread; Admit does
// not block. Ownership: the executor must end first. Failure: a disk that does not tell its room refuses
// nothing.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/status.h"
#include "env/clock.h"
#include "env/executor.h"
#include "env/files.h"

namespace sluice::node {

class DiskRoom {
 public:
  // Asks the disk once: blocks.
  DiskRoom(env::Files& files, env::Executor& disk, const env::Clock& clock, std::string dir,
           uint64_t reserve_bytes);

  // RESOURCE_EXHAUSTED if `bytes` more would eat into the reserve. Half of it is left to what is small: it may
  // name bytes that are on the disk already, and would be in vain otherwise.
  absl::Status Admit(uint64_t bytes);
  // Less is free than the reserve: what need not be kept should go.
  bool Short();

 private:
  void Ask();

  env::Files& files_;
  env::Executor& disk_;
  const env::Clock& clock_;
  const std::string dir_;
  const uint64_t reserve_bytes_;
  std::atomic<uint64_t> free_bytes_;
  std::atomic<uint64_t> admitted_bytes_ = 0;  // since the disk was asked
  std::atomic<int64_t> asked_at_;
  std::atomic<bool> asking_ = false;
};

}  // namespace sluice::node
