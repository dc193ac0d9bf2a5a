// Clients of a simulated cluster: writes, reads and increments through any server,
// judged by the cluster's oracle.
//
//   Clients clients(cluster);
//   clients.Put({.server = 1, .name = "a", .content = Content(300 << 10, 7), .via = PutVia::kStream});
//   clients.Increment(2);
//   cluster.RunUntil([&] { return clients.idle(); }, limit);
//   EXPECT_TRUE(clients.Check().ok());
//
// Each operation ends by itself: acknowledged, refused, or unknown when its answer did not come in time. A
// read that no order of the writes explains is a violation of the cluster. Threading: the world's thread. The
// cluster must outlive its clients.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "sim/cluster/cluster.h"

namespace sluice::sim {

enum class Outcome : uint8_t { kAcknowledged, kRefused, kUnknown };

enum class PutVia : uint8_t {
  kInline,  // inside the log entry (D-16)
  kChain,   // DataStream: the primary passes on, each to the next
  kStar,    // DataStream: the primary to all others
  kWrite,   // ByteStream: OpenWrite, FinishWrite
};

struct Put {
  size_t server = 0;
  GroupId group = kBlobs;
  std::string name;
  std::string content;
  PutVia via = PutVia::kInline;
  size_t piece_bytes = 64u << 10;
  // The client goes away after this many bytes (F-27)...
  std::optional<uint64_t> vanish_at = std::nullopt;
  // ...or with everything sealed, before FORWARD (F-26).
  bool vanish_sealed = false;
  // kWrite: drops its connection once after this many bytes, asks for the committed size,
  // and goes on there (D-20).
  std::optional<uint64_t> interrupt_at = std::nullopt;
  bool digest = false;
  // A DataStream's id; drawn if it is not given.
  std::optional<UploadId> upload = std::nullopt;
};

// `bytes` bytes that follow from `seed`.
std::string MakeContent(size_t bytes, uint64_t seed);
// What stands for content in the oracle.
std::string KeyOf(const std::string& content);

// The header with its own bytes, as a client sends them and servers pass them on.
node::StreamHeader AsSent(node::StreamHeader header);

class Clients {
 public:
  using End = std::function<void(Outcome, const absl::Status&)>;
  struct State;

  explicit Clients(Cluster& cluster);
  ~Clients();

  void Put(sim::Put put, End end = {});
  void Remove(size_t server, const std::string& name, End end = {}, const GroupId& group = kBlobs);
  void Increment(size_t server, End end = {}, const GroupId& group = kCounter);
  // A linearizable read, judged by the oracle; `seen` gets what was read.
  void Get(size_t server, const std::string& name,
           std::function<void(absl::StatusOr<Oracle::Content>)> seen = {}, const GroupId& group = kBlobs);
  // A linearizable read of a counter; one that ends without an answer says nothing.
  void Count(size_t server, std::function<void(absl::StatusOr<int64_t>)> seen = {},
             const GroupId& group = kCounter);
  // FORWARD of a sealed stream, to the leader, retried under one id.
  void Forward(const UploadId& upload, const std::string& name, const std::string& content, End end = {});

  bool idle() const;
  size_t acknowledged() const;
  // Runs the world until everything under way has ended.
  bool Drain(env::Duration limit = std::chrono::seconds(60));

  // --- Waiting forms, for tests
  Outcome PutNow(sim::Put put, absl::Status* status = nullptr);
  Outcome IncrementNow(size_t server, const GroupId& group = kCounter);
  Outcome RemoveNow(size_t server, const std::string& name);
  absl::StatusOr<Oracle::Content> GetNow(size_t server, const std::string& name,
                                         const GroupId& group = kBlobs);
  absl::StatusOr<int64_t> CounterNow(size_t server, const GroupId& group = kCounter);
  // At the end: every server that is not lost holds what the oracle says, in its own bytes. Runs the world.
  absl::Status Check();

 private:
  std::shared_ptr<State> state_;
};

}  // namespace sluice::sim
