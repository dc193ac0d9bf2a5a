#include "client/topology.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>

#include "client/ratis_client.h"
#include "sluice/admin.grpc.pb.h"

namespace sluice::client {
namespace {

constexpr Duration kAliveTimeout = std::chrono::seconds(2);

namespace pb = ::sluice::admin;

// A server that listens on every address knows only its port: it is where it was reached.
void Complete(const std::string& reached, Member* member) {
  const std::string host = reached.substr(0, reached.rfind(':'));
  for (std::string* told : {&member->address, &member->data_stream_address}) {
    if (told->starts_with(':')) *told = host + *told;
  }
}

Member FromProto(const peer::Server& server) {
  return {
      .id = server.id(), .address = server.address(), .data_stream_address = server.data_stream_address()};
}

GroupView FromProto(const pb::Group& group) {
  GroupView view;
  view.id = group.id();
  view.machine = group.machine();
  view.role = group.role();
  view.term = group.term();
  view.leader = group.leader();
  view.ready = group.ready();
  view.first = group.first_index();
  view.last = group.last_index();
  view.commit = group.commit();
  view.applied = group.applied();
  view.bytes_complete = group.bytes_complete();
  view.missing = group.missing();
  view.snapshot = group.snapshot_index();
  view.voting = group.voting();
  view.repairing = group.repairing();
  view.waits_for.assign(group.waits_for().begin(), group.waits_for().end());
  view.storage_error = group.storage_error();
  view.not_serving = group.not_serving();
  view.installing = group.installing();
  view.unreadable = group.unreadable();
  for (const auto& voter : group.configuration().voters()) view.voters.push_back(FromProto(voter));
  for (const auto& learner : group.configuration().learners()) view.learners.push_back(FromProto(learner));
  for (const pb::Progress& one : group.progress()) {
    view.followers.push_back({.id = one.id(),
                              .match = one.match(),
                              .lag = one.lag(),
                              .active = one.active(),
                              .learner = one.learner(),
                              .state = one.state(),
                              .snapshot_bytes = one.snapshot_bytes(),
                              .snapshot_total = one.snapshot_total()});
  }
  return view;
}

StreamView FromProto(const pb::StreamView& stream) {
  return {.id = stream.id(),
          .peer = stream.peer(),
          .bytes_in = stream.bytes_in(),
          .bytes_out = stream.bytes_out(),
          .messages_in = stream.messages_in(),
          .messages_out = stream.messages_out(),
          .window_bytes = stream.window_bytes(),
          .unconsumed_bytes = stream.unconsumed_bytes(),
          .stalls = stream.stalls(),
          .age_ms = stream.age_ms()};
}

BlobView FromProto(const pb::Blob& blob) {
  return {.name = blob.name(),
          .length = blob.length(),
          .digest = Sha256::FromBytes(blob.digest()),
          .created_ms = blob.created_ms(),
          .holders = {blob.holders().begin(), blob.holders().end()},
          .content_id = blob.upload(),
          .local = blob.local(),
          .inlined = blob.inlined()};
}

ServerStatus FromProto(const pb::StatusReply& reply) {
  ServerStatus status;
  status.self = FromProto(reply.self());
  status.cluster = ClusterId::FromBytes(reply.cluster()).value_or(ClusterId{});
  status.pid = reply.pid();
  status.data_dir = reply.data_dir();
  status.stopping = reply.stopping();
  for (const pb::Group& group : reply.groups()) status.groups.push_back(FromProto(group));
  status.uploads.assign(reply.uploads().begin(), reply.uploads().end());
  status.stages = reply.blobs().stages();
  status.staged_bytes = reply.blobs().staged_bytes();
  status.damaged_chunks = reply.blobs().damaged_chunks();
  status.free_bytes = reply.blobs().free_bytes();
  status.reserve_bytes = reply.blobs().reserve_bytes();
  status.log_segments = reply.log().segments();
  status.log_bytes = reply.log().bytes_on_disk();
  status.log_error = reply.log().error();
  return status;
}

}  // namespace

const GroupView* ServerStatus::Find(const GroupId& group) const {
  for (const GroupView& view : groups) {
    if (view.id == group.ToString()) return &view;
  }
  return nullptr;
}

std::string ServerStatus::WhyNotReady() const {
  if (stopping) return "it is stopping";
  if (groups.empty()) return "it has no group";
  if (!log_error.empty()) return log_error;
  for (const GroupView& group : groups) {
    if (!group.not_serving.empty()) return fmt::format("group {}: {}", group.id, group.not_serving);
  }
  if (free_bytes < reserve_bytes) {
    return fmt::format("{} bytes are free on its disk, {} are kept for the log: uploads are refused",
                       free_bytes, reserve_bytes);
  }
  return "";
}

absl::StatusOr<ServerStatus> AskStatus(Connection& connection, const std::string& address, Duration timeout) {
  auto stub = pb::Admin::NewStub(connection.Channel(address));
  grpc::ClientContext context;
  SetDeadline(&context, timeout);  // whoever is there may answer: who it is is checked here
  pb::StatusReply reply;
  RETURN_IF_ERROR(FromGrpc(stub->Status(&context, {}, &reply)));
  ServerStatus status = FromProto(reply);
  RETURN_IF_ERROR(connection.LearnCluster(address, status.cluster));
  Complete(address, &status.self);
  for (GroupView& group : status.groups) {
    for (std::vector<Member>* members : {&group.voters, &group.learners}) {
      for (Member& member : *members) {
        if (member.id == status.self.id) Complete(address, &member);
      }
    }
  }
  return status;
}

absl::StatusOr<StreamList> AskStreams(Connection& connection, const std::string& address, Duration timeout) {
  auto stub = pb::Admin::NewStub(connection.Channel(address));
  grpc::ClientContext context;
  SetDeadline(&context, timeout);
  pb::StreamsReply reply;
  RETURN_IF_ERROR(FromGrpc(stub->Streams(&context, {}, &reply)));
  StreamList list{.streams = {}, .more = reply.more()};
  for (const pb::StreamView& stream : reply.streams()) list.streams.push_back(FromProto(stream));
  return list;
}

std::function<bool()> AliveAt(Connection* connection, const std::string& address) {
  return [connection, address] {
    const absl::Status status = AskStreams(*connection, address, kAliveTimeout).status();
    return !absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status);
  };
}

absl::StatusOr<ServerStatus> AskAnyStatus(Connection& connection, Patience patience) {
  ServerStatus result;
  const auto ask = [&](const std::string& address, Duration timeout) {
    absl::StatusOr<ServerStatus> status = AskStatus(connection, address, std::min(timeout, kCallTimeout));
    if (!status.ok()) return status.status();
    result = *std::move(status);
    return absl::OkStatus();
  };
  const absl::Status asked = connection.AtAny(ask, patience);
  RETURN_IF_ERROR(asked);
  return result;
}

absl::StatusOr<BlobPage> ListBlobs(Connection& connection, const GroupId& group, const std::string& prefix,
                                   const std::string& after, uint32_t limit) {
  pb::ListRequest request;
  request.set_group(std::string(group.AsBytes()));
  request.set_prefix(prefix);
  request.set_after(after);
  request.set_limit(limit);
  BlobPage page;
  const absl::Status asked = connection.AtAny([&](const std::string& address, Duration timeout) {
    auto stub = pb::Admin::NewStub(connection.Channel(address));
    grpc::ClientContext context;
    connection.Prepare(address, &context, timeout);
    pb::ListReply reply;
    RETURN_IF_ERROR(FromGrpc(stub->List(&context, request, &reply)));
    page = {.blobs = {}, .more = reply.more()};
    for (const pb::Blob& blob : reply.blobs()) page.blobs.push_back(FromProto(blob));
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(asked);
  return page;
}

absl::StatusOr<BlobView> StatBlob(Connection& connection, const GroupId& group, const std::string& name) {
  pb::StatRequest request;
  request.set_group(std::string(group.AsBytes()));
  request.set_name(name);
  BlobView view;
  const absl::Status asked = connection.AtAny([&](const std::string& address, Duration timeout) {
    auto stub = pb::Admin::NewStub(connection.Channel(address));
    grpc::ClientContext context;
    connection.Prepare(address, &context, timeout);
    pb::Blob reply;
    RETURN_IF_ERROR(FromGrpc(stub->Stat(&context, request, &reply)));
    view = FromProto(reply);
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(asked);
  return view;
}

absl::Status RemoveBlob(Connection& connection, const GroupId& group, const std::string& name) {
  pb::RemoveRequest request;
  request.set_group(std::string(group.AsBytes()));
  request.set_name(name);
  // One id for all attempts: whoever asks again gets the first answer.
  request.set_client_id(std::string(NewClientId().AsBytes()));
  request.set_call_id(1);
  return connection.AtAny([&](const std::string& address, Duration timeout) {
    auto stub = pb::Admin::NewStub(connection.Channel(address));
    grpc::ClientContext context;
    connection.Prepare(address, &context, timeout);
    pb::RemoveReply reply;
    return FromGrpc(stub->Remove(&context, request, &reply));
  });
}

}  // namespace sluice::client
