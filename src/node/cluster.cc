#include "node/cluster.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/strings.h"

namespace sluice::node {
namespace {

constexpr auto kWarnPeriod = std::chrono::seconds(10);

}  // namespace

ClusterId Cluster::id() const {
  std::lock_guard lock(mutex_);
  return id_;
}

ClusterId Cluster::said() const {
  std::lock_guard lock(mutex_);
  return said_;
}

void Cluster::Said(const ClusterId& id) {
  std::lock_guard lock(mutex_);
  if (id_.IsZero()) said_ = id;
}

bool Cluster::Learn(const ClusterId& id) {
  std::lock_guard lock(mutex_);
  if (id.IsZero() || !id_.IsZero()) return false;
  id_ = said_ = id;
  return true;
}

absl::Status Cluster::Check(std::string_view who, const ClusterId& theirs) const {
  const ClusterId ours = id();
  if (ours.IsZero() || theirs == ours) return absl::OkStatus();
  std::string text = fmt::format(
      "{} is of {}, server {} of cluster {}: they do not belong together; is an address wrong, or the folder "
      "of one of them another's?",
      who, theirs.IsZero() ? std::string("no cluster") : fmt::format("cluster {}", theirs.ToString()),
      self_.value, ours.ToString());
  static Counter& refused =
      NewCounter("sluice_strangers_refused_total", "Calls and streams of another cluster that were refused");
  refused.Increment();
  Warn(fmt::format("refused: {}", text));
  return absl::FailedPreconditionError(std::move(text));
}

void Cluster::TellRefused(const PeerId& by, const absl::Status& why) const {
  if (absl::IsFailedPrecondition(why)) {
    Warn(fmt::format("server {} refuses this one: {}", Printable(by.value), Message(why)));
  }
}

void Cluster::Warn(const std::string& text) const {
  uint64_t unsaid = 0;
  {
    std::lock_guard lock(mutex_);
    const env::Instant now = clock_->MonotonicNow();
    if (warned_once_ && now - warned_ < kWarnPeriod) {
      ++unsaid_;
      return;
    }
    warned_ = now;
    warned_once_ = true;
    unsaid = std::exchange(unsaid_, 0);
  }
  LogWarn("{}{}", text, unsaid > 0 ? fmt::format(" ({} more of this kind before)", unsaid) : "");
}

}  // namespace sluice::node
