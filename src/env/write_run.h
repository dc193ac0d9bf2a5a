// The growing end of a file, in aligned memory until a whole run of it can go past the page cache.
//
//   WriteRun run(1 << 20);
//   while (!data.empty()) { data = run.Take(data); if (run.full()) { write run.bytes(); run.Advance(); } }
//
// Holds the bytes [at(), end()) of the file; of those the first clean() are in the file already. Values only:
// who owns it does the writing. Memory grows with what is held, up to the size of a run, and is reused.
// Threading: none of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "env/aligned_memory.h"

namespace sluice::env {

class WriteRun {
 public:
  explicit WriteRun(size_t run_bytes) : run_bytes_(run_bytes) {}

  uint64_t at() const { return at_; }
  uint64_t end() const { return at_ + size_; }
  size_t clean() const { return clean_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == run_bytes_; }
  std::string_view bytes() const { return {memory_.get(), size_}; }
  std::string_view unwritten() const { return {memory_.get() + clean_, size_ - clean_}; }

  // An empty run at `offset`, a multiple of kBlockBytes.
  void Restart(uint64_t offset) {
    at_ = offset;
    size_ = clean_ = 0;
  }
  // Appends as much of `data` as fits and returns how much that was; 0 when there is no memory.
  size_t Take(const Bytes& data) {
    const size_t count = std::min(data.size(), run_bytes_ - size_);
    if (!Reserve(size_ + count)) return 0;
    data.Slice(0, count).CopyTo(memory_.get() + size_);
    size_ += count;
    return count;
  }
  void MarkClean() { clean_ = size_; }
  // The whole run is in the file.
  void Advance() { Restart(at_ + size_); }
  // Gives the memory back, with what it holds.
  void Release() {
    Restart(0);
    memory_.reset();
    capacity_ = 0;
  }
  // Forgets what lies at `end` and behind it.
  void Cut(uint64_t end) {
    size_ = std::min<uint64_t>(size_, end - at_);
    clean_ = std::min(clean_, size_);
  }

 private:
  bool Reserve(size_t size) {
    if (size <= capacity_) return true;
    size_t capacity = std::max(capacity_, size_t{64} << 10);
    while (capacity < size) capacity *= 4;
    capacity = std::min(capacity, run_bytes_);
    AlignedMemory memory = AllocateAligned(capacity);
    if (memory == nullptr) return false;
    std::copy_n(memory_.get(), size_, memory.get());
    memory_ = std::move(memory);
    capacity_ = capacity;
    return true;
  }

  const size_t run_bytes_;
  AlignedMemory memory_;
  size_t capacity_ = 0;
  uint64_t at_ = 0;
  size_t size_ = 0;
  size_t clean_ = 0;
};

}  // namespace sluice::env
