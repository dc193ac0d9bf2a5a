// What one simulated file holds: what a reader sees now, and every change that a power loss may still undo.
//
//   content.Write(0, "abc", Persistence::kUnsynced);
//   content.Crash(random, policy);   // "abc", a part of it in whole sectors, or nothing
//
// No thread of its own, no locks: sim::SimFiles guards it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/seeded_random.h"

namespace sluice::sim {

// How a power loss treats what was not synced. Each unsynced write is, with these weights, kept whole, cut at
// a sector (a prefix remains), scattered (each sector remains or not by itself), or dropped.
struct CrashPolicy {
  uint32_t keep = 1;
  uint32_t cut = 1;
  uint32_t scatter = 1;
  uint32_t drop = 1;
  // The smallest unit that the device writes whole.
  uint32_t sector_bytes = 512;
  // False: of a rename between two folders either half may be lost alone, so that both names remain or
  // neither (F-16). True: never neither.
  bool renames_keep_a_name = false;

  static CrashPolicy DropUnsynced() { return {.keep = 0, .cut = 0, .scatter = 0}; }
  static CrashPolicy KeepAll() { return {.cut = 0, .scatter = 0, .drop = 0}; }
};

enum class Persistence : uint8_t {
  kUnsynced,  // decided by the crash
  kDurable,   // survives
  kLost,      // its sync failed: readable until the crash, gone after it, whatever is synced later (F-10)
};

class VolatileContent {
 public:
  const std::string& bytes() const { return bytes_; }

  void Write(uint64_t offset, std::string_view data, Persistence persistence);
  void Resize(uint64_t size);
  // Gives all unsynced changes this fate.
  void Settle(Persistence persistence);
  // What was written and lost by a failed sync is not read any more: the page cache is dropped.
  void DropLost();
  // The content after power loss; everything in it is durable then.
  void Crash(SeededRandom& random, const CrashPolicy& policy);

 private:
  struct Change {
    uint64_t offset;
    std::string old_bytes;  // what stood at offset, as far as there was something
    uint64_t old_size;
    bool is_resize;
    std::string new_bytes;  // of a write
    uint64_t new_size;
    Persistence persistence;
  };

  void Undo();
  void Put(uint64_t offset, std::string_view data);
  void RedoPartly(const Change& change, SeededRandom& random, const CrashPolicy& policy);

  std::string bytes_;
  std::vector<Change> changes_;  // in order; empty when everything is durable
};

}  // namespace sluice::sim
