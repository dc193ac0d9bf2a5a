#include "raft/core.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core_impl.h"

namespace sluice::raft {
namespace {

// Beyond these no honest peer gets, and arithmetic on them could overflow.
constexpr uint64_t kTermMax = uint64_t{1} << 62;
constexpr int64_t kIndexMax = int64_t{1} << 62;
// A term rises by one an election, which takes round trips and syncs: in half a year of them, one a second,
// no group gets further than this. What others say may raise our term by so much at a time
// (docs/notes/004-terms-from-the-network.md).
constexpr uint64_t kTermStepMax = uint64_t{1} << 24;

bool IsPossible(Term term) { return term.value < kTermMax; }
bool IsPossible(Index index) { return index >= kNoIndex && index.value < kIndexMax; }
bool IsPossible(TermIndex at) {
  return IsPossible(at.term) && IsPossible(at.index) && (at.index.valid() || at.term == Term{0});
}

// Values that no correct peer can send, whatever our state is.
struct PossibleValues {
  bool operator()(const VoteRequest& m) const {
    return IsPossible(m.term) && IsPossible(m.last) && m.last.term <= m.term;
  }
  bool operator()(const VoteReply& m) const { return IsPossible(m.term) && IsPossible(m.last); }
  bool operator()(const AppendRequest& m) const {
    return IsPossible(m.term) && IsPossible(m.previous) && IsPossible(m.commit) && m.previous.term <= m.term;
  }
  bool operator()(const AppendReply& m) const {
    return IsPossible(m.term) && IsPossible(m.next) && m.next.valid() && IsPossible(m.match) &&
           IsPossible(m.commit);
  }
  bool operator()(const ReadIndexRequest&) const { return true; }
  bool operator()(const ReadIndexReply& m) const { return IsPossible(m.index); }
  bool operator()(const TimeoutNow& m) const { return IsPossible(m.leader_last); }
  bool operator()(const TimeoutNowReply&) const { return true; }
};

// The term that the receiver of a message would take over. A pre-vote raises nothing.
struct ClaimedTerm {
  Term operator()(const VoteRequest& m) const { return m.pre_vote ? Term{0} : m.term; }
  Term operator()(const VoteReply& m) const { return m.term; }
  Term operator()(const AppendRequest& m) const { return m.term; }
  Term operator()(const AppendReply& m) const { return m.term; }
  Term operator()(const ReadIndexRequest&) const { return Term{0}; }
  Term operator()(const ReadIndexReply&) const { return Term{0}; }
  Term operator()(const TimeoutNow&) const { return Term{0}; }
  Term operator()(const TimeoutNowReply&) const { return Term{0}; }
};

}  // namespace

Core::Impl::Impl(CoreOptions options, InitialState state)
    : options_(std::move(options)),
      random_state_(options_.seed),
      next_call_(options_.first_call != 0 ? options_.first_call : 1 + Random(uint64_t{1} << 60)),
      hard_state_(std::move(state.hard_state)),
      log_(state.snapshot, std::move(state.configuration)),
      durable_(state.snapshot.index),
      commit_(std::max(state.commit, state.snapshot.index)),
      applied_(state.snapshot.index),
      promised_last_(state.promised_last) {
  for (EntryInfo& info : state.entries) {
    std::optional<Configuration> configuration;
    if (info.kind == EntryKind::kConfiguration) {
      absl::StatusOr<Configuration> decoded = DecodeConfiguration(info.configuration);
      // Whoever read it from the disk has decoded it, and refused a log where that fails.
      SLUICE_CHECK(decoded.ok()) << decoded.status();
      configuration = *std::move(decoded);
    }
    log_.Append(info.term, info.kind, info.bytes, std::move(configuration));
  }
  const TermIndex last = log_.last();
  durable_ = last.index;
  commit_ = std::min(commit_, last.index);
  if (hard_state_.term < last.term || hard_state_.silent_upto == kEveryTerm) {
    // The hard state is lost or older than the log (F-08, F-09): votes may be forgotten. That they may be is
    // kept with the state, or the next start would know nothing of it.
    SetHardState({std::max(hard_state_.term, last.term), PeerId(), kEveryTerm});
  }
  CheckRepaired();
  role_ = PassiveRole();
  announced_ = {role_, hard_state_.term, leader_, false};
  ResetElectionTimer();
}

void Core::Impl::Tick(uint32_t ticks) {
  if (failed_) return;
  constexpr uint32_t kTicksMax = 1u << 30;  // counters of idle things stop there
  ticks = std::min(ticks, kTicksMax / 2);
  if (!unsynced_.empty()) unsynced_ticks_ = std::min(unsynced_ticks_ + ticks, kTicksMax);
  if (since_leader_ < kTicksMax) since_leader_ += ticks;
  if (role_ == Role::kLeader) {
    TickLeader(ticks);
  } else {
    TickElection(ticks);
  }
  TickReads(ticks);
}

void Core::Impl::Step(const PeerId& from, Message message) {
  if (from.empty() || IsSelf(from) || !std::visit(PossibleValues(), message)) {
    ++impossible_;
    return;
  }
  if (failed_) return;
  if (std::visit(ClaimedTerm(), message) > Reach()) {
    // No election can have led there. It is not taken over, and not passed by either: a server that knows
    // less than its group gets there in steps, whatever happened to the group's term.
    ++impossible_;
    const bool append = std::holds_alternative<AppendRequest>(message);
    if (append || configuration().IsVoter(from)) BecomeFollower(Reach(), PeerId());
    return;
  }
  std::visit([&](auto& m) { Handle(from, m); }, message);
}

Term Core::Impl::Reach() const { return Term{hard_state_.term.value + kTermStepMax}; }

void Core::Impl::StorageFailed() {
  if (role_ == Role::kLeader || role_ == Role::kCandidate) BecomeFollower(hard_state_.term, PeerId());
  FailReads();
  failed_ = true;
  // Nothing that still waits for the disk may leave.
  effects_.send_after.clear();
}

void Core::Impl::FinishInput() {
  RoleChange now{role_, hard_state_.term, leader_, ready()};
  if (now.role != announced_.role || now.term != announced_.term || now.leader != announced_.leader ||
      now.ready != announced_.ready) {
    effects_.role = now;
    announced_ = std::move(now);
  }
}

void Core::Impl::Send(Outgoing outgoing, Index entry) {
  const uint64_t version = hard_state_durable_ < hard_state_version_ ? hard_state_version_ : 0;
  const bool waits_for_entry = entry > durable_;
  if (version == 0 && !waits_for_entry) {
    effects_.send_now.push_back(std::move(outgoing));
    return;
  }
  TermIndex at{Term{0}, kNoIndex};
  if (waits_for_entry) at = {*log_.TermAt(entry), entry};
  effects_.send_after.push_back({std::move(outgoing), at, version});
}

uint64_t Core::Impl::Random(uint64_t bound) {
  // splitmix64: small, and the same on every platform.
  uint64_t z = (random_state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (z ^ (z >> 31)) % bound;
}

// Every input runs between two looks at the invariants.
template <typename Input>
auto Core::Guarded(Input input) {
  const Impl::Watermark before = impl_->Mark();
  if constexpr (std::is_void_v<decltype(input(*impl_))>) {
    input(*impl_);
    impl_->FinishInput();
    impl_->CheckInvariants(before);
  } else {
    auto result = input(*impl_);
    impl_->FinishInput();
    impl_->CheckInvariants(before);
    return result;
  }
}

Core::Core(CoreOptions options, InitialState state)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(state))) {
  impl_->CheckInvariants(impl_->Mark());
}
Core::~Core() = default;

void Core::Tick(uint32_t ticks) {
  Guarded([&](Impl& impl) { impl.Tick(ticks); });
}
void Core::Step(const PeerId& from, Message message) {
  Guarded([&](Impl& impl) { impl.Step(from, std::move(message)); });
}
absl::StatusOr<Index> Core::Propose(std::vector<Bytes> payloads) {
  return Guarded([&](Impl& impl) { return impl.Propose(std::move(payloads)); });
}
absl::StatusOr<Index> Core::ProposeConfiguration(const Configuration& configuration) {
  return Guarded([&](Impl& impl) { return impl.ProposeConfiguration(configuration); });
}
absl::Status Core::TransferTo(const PeerId& peer) {
  return Guarded([&](Impl& impl) { return impl.TransferTo(peer); });
}
void Core::StepDown() {
  Guarded([](Impl& impl) { impl.StepDown(); });
}
void Core::SetMayLead(bool may) {
  Guarded([may](Impl& impl) { impl.SetMayLead(may); });
}
void Core::Campaign() {
  Guarded([](Impl& impl) {
    if (impl.role_ != Role::kLeader && impl.MayCampaign()) impl.Campaign(/*pre_vote=*/true);
  });
}
void Core::RequestRead(uint64_t token) {
  Guarded([&](Impl& impl) { impl.RequestRead(token); });
}
void Core::Persisted(TermIndex upto) {
  Guarded([&](Impl& impl) { impl.Persisted(upto); });
}
void Core::HardStatePersisted(uint64_t version) {
  Guarded([&](Impl& impl) { impl.HardStatePersisted(version); });
}
void Core::Applied(Index upto) {
  Guarded([&](Impl& impl) { impl.Applied(upto); });
}
void Core::Compact(Index upto) {
  Guarded([&](Impl& impl) { impl.Compact(upto); });
}
void Core::Unreachable(const PeerId& peer) {
  Guarded([&](Impl& impl) { impl.Unreachable(peer); });
}
void Core::Unreadable(Index index) {
  Guarded([&](Impl& impl) { impl.Unreadable(index); });
}
void Core::SnapshotDone(const PeerId& peer, bool ok, Index at) {
  Guarded([&](Impl& impl) { impl.SnapshotDone(peer, ok, at); });
}
void Core::SnapshotInstalled(TermIndex at, Configuration configuration) {
  Guarded([&](Impl& impl) { impl.SnapshotInstalled(at, std::move(configuration)); });
}
void Core::Restored(Index first, std::vector<EntryInfo> entries) {
  Guarded([&](Impl& impl) { impl.Restored(first, std::move(entries)); });
}
bool Core::LeaderEndsAt(TermIndex last) {
  return Guarded([&](Impl& impl) { return impl.LeaderEndsAt(last); });
}
void Core::GiveUpLost() {
  Guarded([](Impl& impl) { impl.GiveUpLost(); });
}
void Core::Fence(Term term) {
  Guarded([&](Impl& impl) { impl.Fence(term); });
}
void Core::OthersTold(Term highest) {
  Guarded([&](Impl& impl) { impl.OthersTold(highest); });
}
void Core::StorageFailed() {
  Guarded([](Impl& impl) { impl.StorageFailed(); });
}

bool Core::HasEffects() const {
  const Effects& effects = impl_->effects_;
  return effects.hard_state || !effects.append.empty() || !effects.send_now.empty() ||
         !effects.send_after.empty() || effects.commit || !effects.reads.empty() ||
         !effects.send_snapshot.empty() || effects.role || effects.truncated_from;
}
Effects Core::TakeEffects() { return impl_->TakeEffects(); }

Role Core::role() const { return impl_->role_; }
Term Core::term() const { return impl_->hard_state_.term; }
const PeerId& Core::leader() const { return impl_->leader_; }
bool Core::disk_stalled() const { return impl_->DiskStalled(); }
bool Core::ready() const { return impl_->ready(); }
Index Core::own_first() const { return impl_->role_ == Role::kLeader ? impl_->own_first_ : kNoIndex; }
Index Core::commit() const { return impl_->commit_; }
TermIndex Core::last() const { return impl_->log_.last(); }
Index Core::durable() const { return impl_->durable_; }
Index Core::first_index() const { return impl_->log_.first(); }
uint64_t Core::LogBytesAfter(Index index) const { return impl_->log_.BytesAfter(index); }
std::optional<Term> Core::TermAt(Index index) const { return impl_->log_.TermAt(index); }
const Configuration& Core::configuration() const { return impl_->configuration(); }
Index Core::configuration_index() const { return impl_->log_.configuration_index(); }
const std::optional<TermIndex>& Core::promised_last() const { return impl_->promised_last_; }
bool Core::voting() const { return impl_->MayAcknowledge(); }
bool Core::forgetful() const { return impl_->hard_state_.silent_upto == kEveryTerm; }
bool Core::HearsLeader() const { return impl_->HearsLeader(); }
Index Core::unreadable() const { return impl_->unreadable_; }
bool Core::WantsSnapshot(TermIndex at) const { return impl_->WantsSnapshot(at); }
uint64_t Core::impossible_messages() const { return impl_->impossible_; }

std::vector<Core::PeerProgress> Core::Progress() const {
  std::vector<PeerProgress> all;
  for (const auto& [id, progress] : impl_->progress_) {
    const auto state = static_cast<PeerProgress::State>(progress.state());
    all.push_back({id, progress.match(), progress.known(), progress.next(), progress.commit,
                   impl_->IsActive(progress), !impl_->configuration().IsVoter(id), state});
  }
  return all;
}

}  // namespace sluice::raft
