// Whole servers, with a real group between them: what load balancers ask them over gRPC (K28).
#include "edge/whole_server.h"
#include "base/temp_folder_for_test.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <filesystem>

namespace sluice::edge {
namespace {

constexpr char kServing = 1;  // of grpc.health.v1.HealthCheckResponse
constexpr char kNotServing = 2;

// `status`, the only field of the answer.
char StatusIn(const grpc::ByteBuffer& answer) {
  std::vector<grpc::Slice> slices;
  if (!answer.Dump(&slices).ok()) return 0;
  std::string bytes;
  for (const grpc::Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes.size() == 2 && bytes[0] == 8 ? bytes[1] : 0;
}

// A call of the health service, by its wire format: gRPC brings the service and no client of it.
class HealthCall {
 public:
  HealthCall(const std::string& address, const std::string& method)
      : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));
    call_ = stub_.PrepareCall(&context_, "/grpc.health.v1.Health/" + method, &queue_);
    call_->StartCall(this);
    if (!Done()) return;
    const grpc::Slice empty;
    call_->WriteLast(grpc::ByteBuffer(&empty, 1), grpc::WriteOptions(), this);
    Done();
  }
  ~HealthCall() {
    context_.TryCancel();
    grpc::Status status;
    call_->Finish(&status, this);
    Done();
  }
  // The next status; 0 when the call has ended.
  char Next() {
    grpc::ByteBuffer answer;
    call_->Read(&answer, this);
    return Done() ? StatusIn(answer) : char{0};
  }
  // False if the call ends before it says so.
  bool Await(char wanted) {
    char said = Next();
    while (said != wanted && said != 0) said = Next();
    return said == wanted;
  }

 private:
  bool Done() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

// Waits until both calls say so: a busy machine may lose a leader in between.
bool AwaitCheck(const std::string& address, char wanted) {
  for (int i = 0; i < 100; ++i) {
    if (!HealthCall(address, "Watch").Await(wanted)) return false;
    if (HealthCall(address, "Check").Next() == wanted) return true;
  }
  return false;
}

class WholeServers : public testing::Test {
 protected:
  WholeServers() {
    // Free at the moment: the configuration names the addresses before anybody listens.
    asio::io_context context;
    std::vector<asio::ip::tcp::socket> sockets;
    for (int i = 0; i < 2; ++i) {
      asio::ip::tcp::socket& socket = sockets.emplace_back(context, asio::ip::tcp::v4());
      socket.bind({asio::ip::address_v4::loopback(), 0});
      peers_.push_back({.id = {fmt::format("n{}", i)},
                        .address = fmt::format("127.0.0.1:{}", socket.local_endpoint().port())});
    }
  }
  ~WholeServers() override {
    for (auto& server : servers_) server.reset();
  }

  void Start(size_t i) {
    WholeServerOptions options;
    options.host.self = peers_[i];
    options.host.data_dir = folder_ / fmt::format("n{}", i);
    options.host.bootstrap = true;
    options.host.map_index = true;
    options.host.groups.push_back({.id = kDefaultGroup, .machine = "counter", .peers = peers_});
    options.listen = peers_[i].address;
    auto server = WholeServer::Start(std::move(options));
    ASSERT_TRUE(server.ok()) << Message(server.status());
    servers_[i] = *std::move(server);
  }

  const TempFolder folder_;
  std::vector<raft::Peer> peers_;
  std::unique_ptr<WholeServer> servers_[2];
};

TEST_F(WholeServers, F37_K28_GrpcHealthFollowsTheMajority) {
  Start(0);
  EXPECT_TRUE(AwaitCheck(peers_[0].address, kNotServing));
  HealthCall watch(peers_[0].address, "Watch");
  EXPECT_EQ(watch.Next(), kNotServing) << "one of two";
  Start(1);
  EXPECT_TRUE(watch.Await(kServing));
  EXPECT_TRUE(AwaitCheck(peers_[0].address, kServing));
  EXPECT_TRUE(AwaitCheck(peers_[1].address, kServing));
  servers_[1].reset();
  EXPECT_TRUE(watch.Await(kNotServing)) << "it has lost its majority";
  EXPECT_TRUE(AwaitCheck(peers_[0].address, kNotServing));
  Start(1);
  EXPECT_TRUE(watch.Await(kServing)) << "and has it again";
  servers_[0]->Drain();
  EXPECT_TRUE(watch.Await(kNotServing)) << "it is about to end";
}

// Whichever it is of the four: what has started by then ends, and the error names the port.
TEST(WholeServerPorts, APortInUseEndsTheStartWithItsName) {
  asio::io_context context;
  asio::ip::tcp::acceptor taken(context, {asio::ip::address_v4::loopback(), 0});
  const std::string in_use = fmt::format("127.0.0.1:{}", taken.local_endpoint().port());
  for (std::string WholeServerOptions::*port :
       {&WholeServerOptions::listen, &WholeServerOptions::data_stream_listen,
        &WholeServerOptions::stream_listen, &WholeServerOptions::http_listen}) {
    const TempFolder folder;
    WholeServerOptions options;
    options.host.self = {.id = {"n0"}, .address = in_use};
    options.host.data_dir = folder.path();
    options.host.bootstrap = true;
    options.host.map_index = true;
    options.host.groups.push_back({.id = kDefaultGroup, .machine = "blob", .peers = {options.host.self}});
    options.listen = options.data_stream_listen = options.stream_listen = options.http_listen = "127.0.0.1:0";
    options.*port = in_use;
    const auto server = WholeServer::Start(std::move(options));
    EXPECT_TRUE(absl::IsUnavailable(server.status())) << server.status();
    EXPECT_NE(Message(server.status()).find(in_use), std::string_view::npos) << server.status();
    EXPECT_NE(Message(server.status()).find("in use"), std::string_view::npos) << server.status();
  }
}

}  // namespace
}  // namespace sluice::edge
