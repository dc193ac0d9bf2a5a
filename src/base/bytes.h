// Immutable, shareable, sliceable payload: the only thing bytes travel in.
//
//   Bytes whole = Bytes::Wrap(buffer, n, [slab] { slab->Release(); });   // no copy
//   Bytes part = whole.Slice(0, 4096);                                   // no copy
//   part.ForEachChunk([&](std::string_view chunk) { ... });
//
// A thin name over absl::Cord: copying shares the memory, which is freed by the last holder, on its thread.
// Threading: a value is immutable once built; different copies may be used on different threads.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/cord.h"
#include "base/strings.h"

namespace sluice {

class Bytes {
 public:
  Bytes() = default;

  // Copies `data`. For small things and tests.
  static Bytes Copy(std::string_view data) { return Bytes(absl::Cord(ToAbsl(data))); }
  // Takes the string's memory over.
  static Bytes Take(std::string&& data) { return Bytes(absl::Cord(std::move(data))); }
  // Refers to memory that stays valid and unchanged until `release()` is called, once, by the last holder.
  template <typename Release>
  static Bytes Wrap(const char* data, size_t size, Release release) {
    return Bytes(absl::MakeCordFromExternal({data, size}, std::move(release)));
  }
  static Bytes FromCord(absl::Cord cord) { return Bytes(std::move(cord)); }

  size_t size() const { return cord_.size(); }
  bool empty() const { return cord_.empty(); }

  // Bytes [offset, offset + count), clipped to what there is. Shares memory.
  Bytes Slice(size_t offset, size_t count) const { return Bytes(cord_.Subcord(offset, count)); }
  // Appends by reference.
  void Append(const Bytes& more) { cord_.Append(more.cord_); }

  // Calls `visit` with each contiguous piece, in order.
  void ForEachChunk(absl::FunctionRef<void(std::string_view)> visit) const {
    for (absl::string_view chunk : cord_.Chunks()) visit(ToStd(chunk));
  }
  // Copies everything to `out`, which has room for size() bytes.
  void CopyTo(char* out) const {
    for (absl::string_view chunk : cord_.Chunks()) out = std::copy(chunk.begin(), chunk.end(), out);
  }
  // A flat copy. For control messages, names and tests, not for payload.
  std::string ToString() const { return std::string(cord_); }
  // One contiguous view, flattening (one copy, once) if the bytes are in several pieces.
  std::string_view Flatten() { return ToStd(cord_.Flatten()); }

  const absl::Cord& cord() const { return cord_; }

  friend bool operator==(const Bytes& a, const Bytes& b) { return a.cord_ == b.cord_; }
  friend bool operator==(const Bytes& a, std::string_view b) { return a.cord_ == ToAbsl(b); }

 private:
  explicit Bytes(absl::Cord cord) : cord_(std::move(cord)) {}
  absl::Cord cord_;
};

}  // namespace sluice
