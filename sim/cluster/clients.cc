#include "sim/cluster/clients.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "edge/datastream/header.h"
#include "sim/cluster/client_operations.h"

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr env::Duration kInlineTimeout = seconds(5);
constexpr env::Duration kAttemptTimeout = seconds(2);
constexpr env::Duration kTimeout = seconds(12);
constexpr env::Duration kRetryAfter = milliseconds(100);

}  // namespace

node::StreamHeader AsSent(node::StreamHeader header) {
  header.raw = edge::datastream::EncodeStreamHeader(header);
  return header;
}

std::string MakeContent(size_t bytes, uint64_t seed) {
  SeededRandom random(seed);
  std::string content(bytes, '\0');
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = random.Next64();
    for (size_t j = i; j < std::min(bytes, i + 8); ++j) content[j] = static_cast<char>(word >> (8 * (j - i)));
  }
  return content;
}

std::string KeyOf(const std::string& content) {
  return fmt::format("{}:{:08x}", content.size(), Crc32c(content));
}

Outcome OutcomeOf(const absl::Status& status) {
  if (status.ok()) return Outcome::kAcknowledged;
  // Answers of the machine, or of checks before anything was entered.
  const bool refused =
      absl::IsAlreadyExists(status) || absl::IsInvalidArgument(status) || absl::IsAborted(status);
  return refused ? Outcome::kRefused : Outcome::kUnknown;
}

// --- One request to the leader, under one call id, until it is answered ------------------------------------

namespace {

// How the oracle calls a name of a group, and back.
std::string KeyIn(const GroupId& group, const std::string& name) {
  return group == kBlobs ? name : fmt::format("{}:{}", NameOf(group), name);
}
std::pair<GroupId, std::string> OfKey(const Cluster& cluster, const std::string& key) {
  for (const GroupId& group : cluster.groups()) {
    const std::string prefix = KeyIn(group, "");
    if (!prefix.empty() && key.starts_with(prefix)) return {group, key.substr(prefix.size())};
  }
  return {kBlobs, key};
}
std::string CounterKey(const GroupId& group) { return group == kCounter ? "counter" : NameOf(group); }

}  // namespace

void LeaderRequest::Start(size_t server) {
  clients->Begin();
  target = server;
  clients->cluster.world().After(kTimeout, [self = shared_from_this()] {
    self->Finish(Outcome::kUnknown, absl::DeadlineExceededError("no answer"), {});
  });
  Attempt();
}

void LeaderRequest::Attempt() {
  if (finished) return;
  const uint64_t attempt = ++attempts;
  Cluster& cluster = clients->cluster;
  // A client that got no answer asks another server.
  const auto again = [self = shared_from_this(), attempt] {
    if (self->finished || self->attempts != attempt) return;
    self->target = (self->target + 1) % self->clients->cluster.size();
    self->Attempt();
  };
  if (!cluster.up(target)) {
    cluster.world().After(kRetryAfter, again);
    return;
  }
  cluster.world().After(kAttemptTimeout, again);
  cluster.host(target).Submit(request, [self = shared_from_this(), attempt](node::ClientReply reply) {
    self->Answered(attempt, std::move(reply));
  });
}

void LeaderRequest::Answered(uint64_t attempt, node::ClientReply reply) {
  if (finished) return;
  if (reply.code == node::ReplyCode::kOk)
    return Finish(Outcome::kAcknowledged, absl::OkStatus(), reply.message);
  if (reply.code == node::ReplyCode::kStateMachine) return Finish(OutcomeOf(reply.error), reply.error, {});
  last_error = reply.error;
  if (attempt != attempts) return;
  const uint64_t next = ++attempts;
  Cluster& cluster = clients->cluster;
  if (reply.code == node::ReplyCode::kNotLeader) {
    target = (target + 1) % cluster.size();
    for (size_t i = 0; reply.leader && i < cluster.size(); ++i) {
      if (cluster.id(i) == reply.leader->id) target = i;
    }
  }
  cluster.world().After(kRetryAfter, [self = shared_from_this(), next] {
    if (self->attempts == next) self->Attempt();
  });
}

void LeaderRequest::Finish(Outcome outcome, const absl::Status& status, const Bytes& message) {
  if (std::exchange(finished, true)) return;
  clients->End();
  if (done) done(outcome, outcome == Outcome::kUnknown && !last_error.ok() ? last_error : status, message);
}

// --- The service that every server gives -------------------------------------------------------------------

Clients::Clients(Cluster& cluster) : state_(std::make_shared<State>(cluster)) {
  for (size_t i = 0; i < state_->client.bytes.size(); ++i) {
    state_->client.bytes[i] = static_cast<uint8_t>(cluster.random().Next64());
  }
}
Clients::~Clients() = default;

bool Clients::idle() const { return state_->under_way == 0; }
size_t Clients::acknowledged() const { return state_->cluster.oracle().acknowledged(); }
bool Clients::Drain(env::Duration limit) {
  return state_->cluster.RunUntil([&] { return idle(); }, limit);
}

Clients::End Clients::State::Judge(Oracle::OperationId operation, Clients::End end) {
  Begin();
  return [self = shared_from_this(), operation, end = std::move(end), ended = std::make_shared<bool>(false)](
             Outcome outcome, const absl::Status& status) {
    if (std::exchange(*ended, true)) return;
    LogDebug("operation {} ends: {}", operation, status.ToString());
    Oracle& oracle = self->cluster.oracle();
    // What an answer says about the name beside yes and no.
    const bool other_bytes =
        absl::IsAlreadyExists(status) && Message(status).find("with other bytes") != std::string_view::npos;
    const char* const reply = absl::IsNotFound(status) ? "absent" : other_bytes ? "exists" : "";
    if (outcome == Outcome::kAcknowledged) oracle.Acknowledged(operation, reply);
    if (outcome == Outcome::kRefused) oracle.Refused(operation, reply);
    if (outcome == Outcome::kUnknown) oracle.Unknown(operation);
    self->End();
    if (end) end(outcome, status);
  };
}

void Clients::Put(sim::Put put, End end) {
  const auto operation = state_->cluster.oracle().BeginPut(KeyIn(put.group, put.name), KeyOf(put.content));
  const End judge = state_->Judge(operation, std::move(end));
  if (!state_->cluster.up(put.server))
    return judge(Outcome::kRefused, absl::UnavailableError("the server is down"));
  if (put.via != PutVia::kInline) return StartUpload(state_, std::move(put), judge);
  Cluster& cluster = state_->cluster;
  node::BlobHeader header;
  header.name = put.name;
  header.compute_digest = put.digest;
  cluster.world().After(kInlineTimeout,
                        [judge] { judge(Outcome::kUnknown, absl::DeadlineExceededError("put")); });
  cluster.host(put.server)
      .PutInline(put.group, header, Bytes::Copy(put.content), cluster.lane(put.server),
                 [judge](const absl::StatusOr<node::BlobInfo>& info) {
                   judge(OutcomeOf(info.status()), info.status());
                 });
}

void Clients::Remove(size_t server, const std::string& name, End end, const GroupId& group) {
  Cluster& cluster = state_->cluster;
  const End judge = state_->Judge(cluster.oracle().BeginRemove(KeyIn(group, name)), std::move(end));
  if (!cluster.up(server)) return judge(Outcome::kRefused, absl::UnavailableError("the server is down"));
  cluster.world().After(kInlineTimeout,
                        [judge] { judge(Outcome::kUnknown, absl::DeadlineExceededError("remove")); });
  cluster.host(server).RemoveName(
      group, name, {}, cluster.lane(server), [judge](const absl::Status& removed) {
        // NOT_FOUND is an answer of the log as well: at that point the name was gone.
        judge(absl::IsNotFound(removed) ? Outcome::kAcknowledged : OutcomeOf(removed), removed);
      });
}

void Clients::Increment(size_t server, End end, const GroupId& group) {
  const auto operation = state_->cluster.oracle().BeginIncrement(CounterKey(group));
  auto request = std::make_shared<LeaderRequest>();
  request->clients = state_;
  request->request.group = group;
  request->request.client = state_->client;
  request->request.call = state_->NextCall();
  request->request.message = Bytes::Copy("INCREMENT");
  state_->Begin();
  request->done = [state = state_, operation, group, call = request->request.call, end = std::move(end)](
                      Outcome outcome, const absl::Status& status, const Bytes& message) {
    Oracle& oracle = state->cluster.oracle();
    if (outcome == Outcome::kAcknowledged) {
      const std::string reply = std::to_string(CounterValue(message));
      oracle.Acknowledged(operation, reply);
      const absl::Status judged = oracle.Answered(NameOf(group), CallName(state->client, call), reply);
      if (!judged.ok()) state->cluster.Violation(std::string(Message(judged)));
    }
    if (outcome == Outcome::kRefused) oracle.Refused(operation);
    if (outcome == Outcome::kUnknown) oracle.Unknown(operation);
    state->End();
    if (end) end(outcome, status);
  };
  request->Start(server);
}

void Clients::Forward(const UploadId& upload, const std::string& name, const std::string& content, End end) {
  const End judge = state_->Judge(state_->cluster.oracle().BeginPut(name, KeyOf(content)), std::move(end));
  ForwardUpload(state_, 0, kBlobs, upload, name, judge);
}

void Clients::Get(size_t server, const std::string& name,
                  std::function<void(absl::StatusOr<Oracle::Content>)> seen, const GroupId& group) {
  Cluster& cluster = state_->cluster;
  if (!cluster.up(server)) {
    if (seen) seen(absl::UnavailableError("the server is down"));
    return;
  }
  state_->Begin();
  const auto operation = cluster.oracle().BeginRead(KeyIn(group, name));
  auto read = std::make_shared<BlobRead>();
  read->clients = state_;
  read->lane = cluster.lane(server);
  read->group = group;
  read->done = [state = state_, operation, server, name, seen = std::move(seen)](
                   absl::StatusOr<std::string> content, bool definite) {
    state->End();
    // A read that began and could not be finished says nothing about the name
    // (its bytes may just have been freed).
    absl::StatusOr<Oracle::Content> result = Oracle::Content();
    if (content.ok()) {
      result = Oracle::Content(KeyOf(*content));
    } else if (!absl::IsNotFound(content.status()) || !definite) {
      result = content.status();
    }
    if (result.ok()) {
      const absl::Status explained = state->cluster.oracle().EndRead(operation, *result);
      if (!explained.ok()) {
        state->cluster.Violation(fmt::format("read at n{}: {}", server, Message(explained)));
      }
    } else if (!state->cluster.disk(server).halted() && !absl::IsUnavailable(result.status()) &&
               !absl::IsDeadlineExceeded(result.status()) && !absl::IsNotFound(result.status()) &&
               !absl::IsResourceExhausted(result.status())) {
      state->cluster.Violation(
          fmt::format("read of {} at n{}: {}", name, server, result.status().ToString()));
    }
    if (seen) seen(std::move(result));
  };
  cluster.transports(server).Own(read);
  cluster.world().After(kTimeout, [read] { read->Finish(absl::DeadlineExceededError("read"), false); });
  read->Start(cluster.host(server), name);
}

void Clients::Count(size_t server, std::function<void(absl::StatusOr<int64_t>)> seen, const GroupId& group) {
  Cluster& cluster = state_->cluster;
  const auto finish = [state = state_, seen = std::move(seen),
                       ended = std::make_shared<bool>(false)](absl::StatusOr<int64_t> value) {
    if (std::exchange(*ended, true)) return;
    state->End();
    if (seen) seen(std::move(value));
  };
  state_->Begin();
  if (!cluster.up(server)) return finish(absl::UnavailableError("the server is down"));
  node::ClientRequest request;
  request.group = group;
  request.kind = node::RequestKind::kRead;
  request.client = state_->client;
  request.call = state_->NextCall();
  request.message = Bytes::Copy("GET");
  const auto operation = cluster.oracle().BeginCounterRead(CounterKey(group));
  cluster.world().After(kTimeout, [finish] { finish(absl::DeadlineExceededError("counter")); });
  cluster.host(server).Submit(request, [state = state_, operation, finish](node::ClientReply reply) {
    if (reply.code != node::ReplyCode::kOk) return finish(reply.error);
    const int64_t value = CounterValue(reply.message);
    state->cluster.oracle().EndCounterRead(operation, value);
    finish(value);
  });
}

// --- Waiting forms -----------------------------------------------------------------------------------------

Outcome Clients::PutNow(sim::Put put, absl::Status* status) {
  std::optional<Outcome> outcome;
  Put(std::move(put), [&](Outcome ended, const absl::Status& why) {
    outcome = ended;
    if (status != nullptr) *status = why;
  });
  state_->cluster.RunUntil([&] { return outcome.has_value(); }, seconds(120));
  SLUICE_CHECK(outcome.has_value()) << "a put never ended";
  return *outcome;
}

Outcome Clients::IncrementNow(size_t server, const GroupId& group) {
  std::optional<Outcome> outcome;
  Increment(
      server, [&](Outcome ended, const absl::Status&) { outcome = ended; }, group);
  state_->cluster.RunUntil([&] { return outcome.has_value(); }, seconds(120));
  SLUICE_CHECK(outcome.has_value()) << "an increment never ended";
  return *outcome;
}

Outcome Clients::RemoveNow(size_t server, const std::string& name) {
  std::optional<Outcome> outcome;
  Remove(server, name, [&](Outcome ended, const absl::Status&) { outcome = ended; });
  state_->cluster.RunUntil([&] { return outcome.has_value(); }, seconds(120));
  SLUICE_CHECK(outcome.has_value()) << "a removal never ended";
  return *outcome;
}

absl::StatusOr<Oracle::Content> Clients::GetNow(size_t server, const std::string& name,
                                                const GroupId& group) {
  std::optional<absl::StatusOr<Oracle::Content>> result;
  Get(
      server, name, [&](absl::StatusOr<Oracle::Content> seen) { result = std::move(seen); }, group);
  state_->cluster.RunUntil([&] { return result.has_value(); }, seconds(120));
  SLUICE_CHECK(result.has_value()) << "a read never ended";
  return *result;
}

absl::StatusOr<int64_t> Clients::CounterNow(size_t server, const GroupId& group) {
  std::optional<absl::StatusOr<int64_t>> result;
  Count(
      server, [&](absl::StatusOr<int64_t> seen) { result = std::move(seen); }, group);
  state_->cluster.RunUntil([&] { return result.has_value(); }, seconds(20));
  SLUICE_CHECK(result.has_value()) << "a read of a counter never ended";
  return *result;
}

absl::Status Clients::Check() {
  std::vector<Oracle::Reader> readers;
  std::vector<Oracle::CounterReader> counters;
  for (size_t i = 0; i < state_->cluster.size(); ++i) {
    if (state_->cluster.lost(i)) continue;
    readers.push_back([this, i](const std::string& key) {
      const auto [group, name] = OfKey(state_->cluster, key);
      return GetNow(i, name, group);
    });
    counters.push_back([this, i](const std::string& key) {
      for (const GroupId& group : state_->cluster.groups()) {
        if (CounterKey(group) == key) return CounterNow(i, group);
      }
      return absl::StatusOr<int64_t>(absl::NotFoundError(key));
    });
  }
  // The readers' own reads are operations of the oracle too, but add no names.
  RETURN_IF_ERROR(state_->cluster.oracle().Check(readers));
  return state_->cluster.oracle().CheckCounters(counters);
}

}  // namespace sluice::sim
