// Reads whose servers misbehave: the stream ends well before all bytes have come, or nothing comes at all.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>

#include "client/bytestream.h"
#include "sluice/admin.grpc.pb.h"
#include "sluice/blob.h"
#include "sluice/bytestream/bytestream.pb.h"

namespace sluice::client {
namespace {

constexpr char kText[] = "ten bytes.";
constexpr size_t kLength = sizeof kText - 1;
constexpr size_t kAtATime = 4;

class KnowsOneBlob final : public admin::Admin::Service {
  grpc::Status Stat(grpc::ServerContext*, const admin::StatRequest*, admin::Blob* blob) override {
    blob->set_length(kLength);
    return grpc::Status::OK;
  }
};

// Each answer is a few bytes and OK, as of a server whose copy is cut short.
class EndsEarly final : public grpc::CallbackGenericService {
 public:
  std::atomic<int> reads = 0;

 private:
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    Call() { StartRead(&buffer_); }
    void OnReadDone(bool ok) override {
      ::sluice::bytestream::ReadRequest request;
      if (!ok || !grpc::SerializationTraits<decltype(request)>::Deserialize(&buffer_, &request).ok()) {
        return Finish({grpc::StatusCode::INVALID_ARGUMENT, "no ReadRequest"});
      }
      ::sluice::bytestream::ReadResponse response;
      response.set_data(std::string(kText).substr(static_cast<size_t>(request.read_offset()), kAtATime));
      bool owned = false;
      (void)grpc::SerializationTraits<decltype(response)>::Serialize(response, &answer_, &owned);
      StartWriteAndFinish(&answer_, {}, grpc::Status::OK);
    }
    void OnDone() override { delete this; }

   private:
    grpc::ByteBuffer buffer_;
    grpc::ByteBuffer answer_;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    ++reads;
    return new Call;
  }
};

class SaysNothing final : public grpc::CallbackGenericService {
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Call;
  }
};

// Whether it is alive is asked by another way; the limit of silence alone would be half a minute.
TEST(ReadBlob, K22_ASilentServerIsLeftWhenItIsNotAlive) {
  SaysNothing bytes;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(&bytes);
  const auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const std::string address = fmt::format("127.0.0.1:{}", port);
  Connection connection({address});
  int asked = 0;
  const absl::Status left =
      ReadStream(connection, {.address = address, .name = "a"}, 0,
                 {.silence = std::chrono::seconds(30), .alive = [&asked] { return ++asked < 3; }},
                 [](const Bytes&) { return absl::OkStatus(); });
  EXPECT_TRUE(absl::IsDeadlineExceeded(left)) << left;
  EXPECT_EQ(asked, 3);
}

TEST(ReadBlob, P4_AStreamThatEndsEarlyIsNoEndOfTheBlob) {
  KnowsOneBlob admin;
  EndsEarly bytes;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&admin);
  builder.RegisterCallbackGenericService(&bytes);
  const auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const auto client = *BlobClient::Create({.servers = {fmt::format("127.0.0.1:{}", port)}});
  const auto got = client->GetBytes("a", 100);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->ToString(), kText);
  EXPECT_EQ(bytes.reads, 3);
}

}  // namespace
}  // namespace sluice::client
