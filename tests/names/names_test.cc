// A program that links the messages of our peers under their own names, as brpc's library and stubs of Ratis and of
// ByteStream bring them, beside the whole of this library (K26). That it starts at all is half of the test: protobuf
// ends a process in which two files, or two messages, have one name.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <stdio.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <initializer_list>
#include <string>

#include "brpc/rpc_meta.pb.h"
#include "brpc/streaming_rpc_meta.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "ratis/example.pb.h"
#include "ratis/grpc.grpc.pb.h"
#include "sluice/rpc.h"
#include "sluice/server.h"

namespace {

bool Check(bool right, const std::string& what) {
  if (!right) fprintf(stderr, "wrong: %s\n", what.c_str());
  return right;
}

// Their messages are theirs.
bool NamesAreTheirOwn() {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  bool right = true;
  for (const google::protobuf::Message* message : std::initializer_list<const google::protobuf::Message*>{
           &brpc::policy::RpcMeta::default_instance(), &brpc::StreamFrameMeta::default_instance(),
           &ratis::common::RaftClientRequestProto::default_instance(),
           &ratis::example::FileStoreRequestProto::default_instance(),
           &google::bytestream::WriteRequest::default_instance()}) {
    right &= Check(pool->FindMessageTypeByName(message->GetTypeName()) == message->GetDescriptor(),
                   std::string(message->GetTypeName()));
  }
  return right;
}

bool RpcWorks() {
  sluice::RpcServer server;
  server.AddMethod(
      "a.B", "Echo",
      [](sluice::Controller&, const sluice::Bytes& request, sluice::Bytes* response, sluice::Done done) {
        *response = request;
        done();
      });
  if (!Check(server.Start("127.0.0.1:0").ok(), "an RpcServer")) return false;
  const auto channel = sluice::Channel::Create("127.0.0.1:" + std::to_string(server.port()));
  if (!Check(channel.ok(), "a Channel")) return false;
  sluice::Controller controller;
  sluice::Bytes response;
  (*channel)->Call("a.B", "Echo", controller, sluice::Bytes::Copy("hello"), &response);
  return Check(!controller.Failed() && response == "hello", "an echo: " + controller.ErrorText());
}

// Services have the names of the wire: stubs that were made from their own files reach ours.
bool ServicesAreReached() {
  std::string folder = (std::filesystem::temp_directory_path() / "sluice-names-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return Check(false, "a folder");
  sluice::ServerOptions options;
  options.id = "n0";
  options.listen = "127.0.0.1:0";
  options.data_dir = folder;
  auto server = sluice::Server::Start(std::move(options));
  if (!Check(server.ok(), "a Server: " + std::string(server.status().message()))) return false;
  const auto channel = grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials());
  const auto within = std::chrono::system_clock::now() + std::chrono::seconds(30);

  grpc::ClientContext query;
  query.set_deadline(within);
  query.set_wait_for_ready(true);
  google::bytestream::QueryWriteStatusRequest request;
  google::bytestream::QueryWriteStatusResponse reply;
  request.set_resource_name("");  // refused at once, whether there is a leader or not
  const auto known =
      google::bytestream::ByteStream::NewStub(channel)->QueryWriteStatus(&query, request, &reply);
  bool right =
      Check(known.error_code() == grpc::StatusCode::INVALID_ARGUMENT, "ByteStream: " + known.error_message());

  grpc::ClientContext list;
  list.set_deadline(within);
  ratis::common::GroupListRequestProto groups;
  ratis::common::GroupListReplyProto listed;
  groups.mutable_rpc_request()->set_requestor_id("0123456789abcdef");
  groups.mutable_rpc_request()->set_reply_id("n0");
  const auto answered =
      ratis::grpc::AdminProtocolService::NewStub(channel)->groupList(&list, groups, &listed);
  right &=
      Check(answered.error_code() != grpc::StatusCode::UNIMPLEMENTED, "Ratis: " + answered.error_message());
  (*server)->Stop();
  std::filesystem::remove_all(folder);
  return right;
}

}  // namespace

int main() {
  bool right = NamesAreTheirOwn();
  right &= RpcWorks();
  right &= ServicesAreReached();
  puts(right ? "names: passed" : "names: failed");
  return right ? 0 : 1;
}
