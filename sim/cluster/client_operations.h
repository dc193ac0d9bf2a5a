// The single operations of sim::Clients, as objects that live from their begin to their end.
//
//   StartUpload(state, put, judge);
//
// Threading: the world's thread; what touches a server runs on its lane, and is dropped with its life.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "sim/cluster/clients.h"

namespace sluice::sim {

struct Clients::State : std::enable_shared_from_this<Clients::State> {
  explicit State(Cluster& cluster_of) : cluster(cluster_of) {}
  Cluster& cluster;
  ClientId client;
  uint64_t last_call = 0;
  size_t under_way = 0;

  CallId NextCall() { return CallId{++last_call}; }
  void Begin() { ++under_way; }
  void End() { --under_way; }
  // Ends the operation in the oracle, once.
  Clients::End Judge(Oracle::OperationId operation, Clients::End end);
};

Outcome OutcomeOf(const absl::Status& status);

// A request to a group's leader, under one call id, until it is answered or given up.
struct LeaderRequest : std::enable_shared_from_this<LeaderRequest> {
  std::shared_ptr<Clients::State> clients;
  node::ClientRequest request;
  std::function<void(Outcome, const absl::Status&, const Bytes&)> done;

  void Start(size_t server);

 private:
  void Attempt();
  void Answered(uint64_t attempt, node::ClientReply reply);
  void Finish(Outcome outcome, const absl::Status& status, const Bytes& message);

  size_t target = 0;
  uint64_t attempts = 0;
  bool finished = false;
  absl::Status last_error;
};

// A read of a whole blob. `definite`: it says whether there is such a name.
struct BlobRead final : OwnedByLife, std::enable_shared_from_this<BlobRead> {
  std::shared_ptr<Clients::State> clients;
  env::Executor* lane = nullptr;
  GroupId group = kBlobs;
  std::function<void(absl::StatusOr<std::string> content, bool definite)> done;

  void Start(node::Host& host, const std::string& name);
  void Drop() override { Finish(absl::UnavailableError("the server died"), false); }
  void Finish(absl::StatusOr<std::string> content, bool definite);

 private:
  void Next();
  std::shared_ptr<blob::Source> source_;
  std::string content_;
};

// Streams put.content and ends with judge.
void StartUpload(std::shared_ptr<Clients::State> clients, Put put, Clients::End judge);
void ForwardUpload(const std::shared_ptr<Clients::State>& clients, size_t server, const GroupId& group,
                   const UploadId& upload, const std::string& name, const Clients::End& judge);

}  // namespace sluice::sim
