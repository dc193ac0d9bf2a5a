// SLUICE_CHECK: an invariant of ours, on in every build. Never for input from a peer, a user or a disk.
//
//   SLUICE_CHECK(index <= last_index_) << "apply " << index << " beyond " << last_index_;
//
// When it fails the process prints file, line, condition and the streamed context, and aborts.
#pragma once

#include <sstream>

namespace sluice::base {

// Collects the context of a failed check and aborts in its destructor.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives the ternary in SLUICE_CHECK one type (void) on both sides.
struct CheckVoidify {
  void operator&(std::ostream&) const {}
};

}  // namespace sluice::base

#define SLUICE_CHECK(condition)                       \
  (__builtin_expect(static_cast<bool>(condition), 1)) \
      ? (void)0                                       \
      : ::sluice::base::CheckVoidify() &              \
            ::sluice::base::CheckFailure(__FILE__, __LINE__, #condition).stream()
