#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>

#include "base/metrics.h"
#include "edge/bytestream/fetch.h"
#include "edge/bytestream/service.h"
#include "edge/datastream/server.h"
#include "edge/datastream/stream_host_for_test.h"
#include "sluice/bytestream/bytestream.grpc.pb.h"

namespace sluice::edge::bytestream {
namespace {

namespace pb = ::sluice::bytestream;

// Names, and uploads that can be taken up again at their length.
class NamesHost : public StreamHost {
 public:
  NamesHost() : StreamHost("n0"), tuned(FakeHost::options()) {}

  const node::HostOptions& options() const override { return tuned; }
  void PutInline(const GroupId&, node::BlobHeader header, Bytes data, env::Executor* on,
                 Done<node::BlobInfo> done) override {
    ++inlined;
    if (hold) {
      std::lock_guard lock(mutex);
      held.push_back(std::move(done));
      return;
    }
    Publish(header.name, data.ToString(), on, std::move(done));
  }
  void OpenWrite(const GroupId& group, node::BlobHeader header, uint64_t offset, env::Executor* home,
                 Done<std::shared_ptr<node::Relay>> done) override {
    home->Post([=, this, done = std::move(done)]() mutable {
      auto& relay = writes_[header.name];
      if (offset == 0) {
        node::StreamHeader stream;
        stream.group = group;
        stream.upload.call = CallId{++calls_};
        stream.blob = header;
        relay = OpenRelay(stream, home, [](const absl::Status&) {});
      }
      if (relay == nullptr || relay->length() != offset)
        return done(absl::InvalidArgumentError("not the committed size"));
      done(relay);
    });
  }
  void FinishWrite(std::shared_ptr<node::Relay> relay, env::Executor* on,
                   Done<node::BlobInfo> done) override {
    std::unique_lock lock(mutex);
    const std::string data = content[relay->header().upload].bytes;
    lock.unlock();
    Publish(relay->header().blob.name, data, on, std::move(done));
  }
  void QueryWrite(const GroupId&, const node::WriteKey& write, bool, env::Executor* on,
                  Done<node::WriteStatus> done) override {
    on->Post([this, name = write.name, done = std::move(done)]() mutable {
      std::lock_guard lock(mutex);
      if (names.count(name) > 0) return done(node::WriteStatus{names[name].size(), true});
      const auto at = writes_.find(name);
      if (at == writes_.end()) return done(absl::NotFoundError("never heard of it"));
      done(node::WriteStatus{at->second->length(), false});
    });
  }
  void OpenRead(const GroupId&, const std::string& name, const std::optional<UploadId>& wanted,
                env::Executor* on, Done<node::Reading> done) override {
    on->Post([this, name, wanted, done = std::move(done)]() mutable {
      std::lock_guard lock(mutex);
      if (names.count(name) == 0) return done(absl::NotFoundError("no such name"));
      // What has the same length is the same content here.
      const UploadId content_id{ClientId{{7}}, CallId{names[name].size()}};
      if (wanted && *wanted != content_id) return done(absl::AbortedError("it has other bytes now"));
      auto source = std::make_shared<MemorySource>(names[name]);
      source->missing = missing;
      node::Reading reading{.info = {}, .source = source};
      reading.info.content = content_id;
      done(std::move(reading));
    });
  }
  void OpenUploadRead(const node::FetchWanted& wanted, env::Executor* on,
                      Done<std::shared_ptr<blob::Source>> done) override {
    on->Post([=, done = std::move(done)]() mutable {
      if (wanted.group != kDefaultGroup || wanted.upload.call.value != 77)
        return done(absl::NotFoundError("no such upload"));
      if (wanted.length != 12 || wanted.checksum != 0x89abcdef)
        return done(absl::DataLossError("other bytes than are wanted"));
      done(std::make_shared<MemorySource>("sealed bytes"));
    });
  }

  node::HostOptions tuned;
  std::map<std::string, std::string> names;  // guarded by mutex
  uint64_t missing = 0;
  int inlined = 0;
  bool hold = false;                       // small writes are not answered
  std::vector<Done<node::BlobInfo>> held;  // guarded by mutex

 private:
  using FakeHost::Publish;
  void Publish(const std::string& name, const std::string& data, env::Executor* on,
               Done<node::BlobInfo> done) {
    {
      std::lock_guard lock(mutex);
      names[name] = data;
    }
    on->Post([size = data.size(), done = std::move(done)]() mutable {
      node::BlobInfo info;
      info.length = size;
      done(info);
    });
  }
  std::map<std::string, std::shared_ptr<node::Relay>> writes_;  // the lane's
  uint64_t calls_ = 0;
};

constexpr uint32_t kCallsMax = 16;

class ByteStream : public testing::Test {
 protected:
  ByteStream() {
    server_ = *Server::Create(&host_, {.listen = "127.0.0.1:0", .lane_loops = 1});
    server_->Add(std::make_unique<ByteStreamPart>(&host_, datastream::LanesOf(*server_),
                                                  ByteStreamOptions{.calls_max = kCallsMax}));
    EXPECT_TRUE(server_->Listen().ok());
    address_ = fmt::format("127.0.0.1:{}", server_->port());
    // On a busy machine the client's library may guess a window of many MiB, and takes as much unasked: here
    // it takes 64 KiB.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = pb::ByteStream::NewStub(
        grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  }
  ~ByteStream() override { server_->Stop(std::chrono::milliseconds(200)); }

  static pb::WriteRequest Message(const std::string& name, int64_t offset, const std::string& data,
                                  bool finish) {
    pb::WriteRequest message;
    message.set_resource_name(name);
    message.set_write_offset(offset);
    message.set_data(data);
    message.set_finish_write(finish);
    return message;
  }
  // The committed size, or the code of the failure, negative.
  int64_t Write(const std::vector<pb::WriteRequest>& messages) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::WriteResponse response;
    const auto call = stub_->Write(&context, &response);
    for (const auto& message : messages) call->Write(message);
    call->WritesDone();
    const grpc::Status status = call->Finish();
    return status.ok() ? response.committed_size() : -static_cast<int64_t>(status.error_code());
  }
  // Whether the relays keep their answers back; those that they kept are given.
  void Hold(bool hold) {
    std::vector<absl::AnyInvocable<void()>> held;
    {
      std::lock_guard lock(host_.mutex);
      host_.hold_answers = hold;
      if (!hold) held.swap(host_.StreamHost::held);
    }
    for (auto& answer : held) answer();
  }
  // As many writes as there may be calls; each, of a name that is its number, has sent 100,000 bytes, and says no more.
  struct Begun {
    grpc::ClientContext context;
    pb::WriteResponse response;
    std::unique_ptr<grpc::ClientWriter<pb::WriteRequest>> call;
  };
  std::vector<std::unique_ptr<Begun>> BeginWrites() {
    std::vector<std::unique_ptr<Begun>> writes;
    for (size_t i = 0; i < kCallsMax; ++i) {
      Begun& write = *writes.emplace_back(std::make_unique<Begun>());
      write.context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
      write.call = stub_->Write(&write.context, &write.response);
      EXPECT_TRUE(write.call->Write(Message(fmt::format("{}", i), 0, std::string(100'000, 'x'), false)));
    }
    return writes;
  }
  // The same, again until the server has let go of a call that ended, or has not in 20 seconds.
  int64_t AnswerOnceThereIsAPlace(const std::vector<pb::WriteRequest>& messages) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    int64_t answer = 0;
    do {
      answer = Write(messages);
    } while (answer == -grpc::StatusCode::RESOURCE_EXHAUSTED && std::chrono::steady_clock::now() < give_up);
    return answer;
  }
  grpc::Status Read(const std::string& name, int64_t offset, int64_t limit, std::string* out) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::ReadRequest request;
    request.set_resource_name(name);
    request.set_read_offset(offset);
    request.set_read_limit(limit);
    const auto call = stub_->Read(&context, request);
    pb::ReadResponse response;
    while (call->Read(&response)) out->append(response.data());
    return call->Finish();
  }
  int ReadCode(const std::string& name, int64_t offset, int64_t limit = 0) {
    std::string ignored;
    return Read(name, offset, limit, &ignored).error_code();
  }
  grpc::Status Query(const std::string& name, pb::QueryWriteStatusResponse* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::QueryWriteStatusRequest request;
    request.set_resource_name(name);
    return stub_->QueryWriteStatus(&context, request, response);
  }

  NamesHost host_;
  std::unique_ptr<Server> server_;
  std::string address_;
  std::unique_ptr<pb::ByteStream::Stub> stub_;
};

constexpr int kInvalid = grpc::StatusCode::INVALID_ARGUMENT;

TEST_F(ByteStream, WhatIsWrittenIsReadBack) {
  std::string data((3 << 20) + 17, ' ');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 11 + i / 777);
  std::vector<pb::WriteRequest> messages;
  for (size_t at = 0; at < data.size(); at += 16 << 10) {
    const std::string part = data.substr(at, 16 << 10);
    messages.push_back(
        Message(at == 0 ? "a/b" : "", static_cast<int64_t>(at), part, at + part.size() == data.size()));
  }
  EXPECT_EQ(Write(messages), static_cast<int64_t>(data.size()));
  std::string back;
  EXPECT_TRUE(Read("a/b", 0, 0, &back).ok());
  EXPECT_TRUE(back == data);
  back.clear();
  EXPECT_TRUE(Read("a/b", 1'000'001, 1'500'000, &back).ok());
  EXPECT_TRUE(back == data.substr(1'000'001, 1'500'000));
}

TEST_F(ByteStream, D16_ASmallWholeWriteIsNoUpload) {
  EXPECT_EQ(Write({Message("small", 0, "ab", false), Message("", 2, "c", false), Message("", 3, "", true)}),
            3);
  EXPECT_EQ(host_.inlined, 1);
  EXPECT_EQ(host_.names["small"], "abc");
  EXPECT_EQ(Write({Message("empty", 0, "", true)}), 0);
  EXPECT_EQ(host_.inlined, 2);
  const std::string large(host_.options().inline_upload_bytes_max + 1, 'x');
  EXPECT_EQ(Write({Message("large", 0, large, true)}), static_cast<int64_t>(large.size()));
  EXPECT_EQ(host_.inlined, 2) << "one message is no reason to put it into the log";
  EXPECT_EQ(host_.names["large"], large);
}

TEST_F(ByteStream, D20_APausedWriteGoesOnAtItsCommittedSize) {
  pb::QueryWriteStatusResponse status;
  EXPECT_EQ(Query("f", &status).error_code(), grpc::StatusCode::NOT_FOUND);
  const std::string half(200'000, 'x');
  EXPECT_EQ(Write({Message("f", 0, half, false)}), 200'000);
  EXPECT_TRUE(Query("f", &status).ok());
  EXPECT_EQ(status.committed_size(), 200'000);
  EXPECT_FALSE(status.complete());
  EXPECT_EQ(ReadCode("f", 0), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Write({Message("f", 5, half, true)}), -kInvalid);
  EXPECT_EQ(Write({Message("f", 200'000, half, true)}), 400'000);
  EXPECT_TRUE(Query("f", &status).ok());
  EXPECT_TRUE(status.complete());
  EXPECT_EQ(host_.names["f"], half + half);
}

TEST_F(ByteStream, F74_WritesThatBreakTheRulesAreRefused) {
  const std::string long_name(10 << 10, 'n');
  EXPECT_EQ(Write({Message("", 0, "x", true)}), -kInvalid);
  EXPECT_EQ(Write({}), -kInvalid);
  EXPECT_EQ(Write({Message("a", -1, "x", true)}), -kInvalid);
  EXPECT_EQ(Write({Message("a", 0, "x", false), Message("b", 1, "x", true)}), -kInvalid);
  EXPECT_EQ(Write({Message("a", 0, "x", false), Message("", 2, "x", true)}), -kInvalid);
  EXPECT_EQ(Write({Message(long_name, 0, "x", true)}), -kInvalid);
  EXPECT_EQ(Write({Message(std::string("a\0b", 3), 0, "x", true)}), -kInvalid);
  EXPECT_EQ(Write({Message("sha256:ABC", 0, "x", true)}), -kInvalid);
  const std::string cas = "uploads/u/blobs/" + std::string(64, 'a') + "/1";
  EXPECT_EQ(Write({Message(cas, 0, "x", true)}), -grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_TRUE(host_.names.empty());
}

TEST_F(ByteStream, AFinishedWriteIsAnsweredAlthoughTheClientDoesNotEndItsSide) {
  for (const size_t size : {size_t{1}, size_t{300'000}}) {  // inside the log, and as an upload
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::WriteResponse response;
    const auto call = stub_->Write(&context, &response);
    const std::string name = fmt::format("open-{}", size);
    ASSERT_TRUE(call->Write(Message(name, 0, std::string(size, 'x'), true)));
    const grpc::Status status = call->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.committed_size(), static_cast<int64_t>(size));
  }
}

TEST_F(ByteStream, F74_DataAfterTheFinishAreRefusedIfTheyAreSeenAndNeverTaken) {
  host_.hold = true;
  EXPECT_EQ(Write({Message("a", 0, "x", true), Message("", 1, "late", false)}), -kInvalid);
  {
    std::lock_guard lock(host_.mutex);
    ASSERT_EQ(host_.held.size(), 1u);
    host_.held.clear();
  }
  host_.hold = false;
  const int64_t answer = Write({Message("b", 0, "x", true), Message("", 1, "late", false)});
  EXPECT_TRUE(answer == 1 || answer == -kInvalid) << answer;
  EXPECT_EQ(host_.names["b"], "x");
}

TEST_F(ByteStream, F76_ReadsOutsideTheResourceAreRefused) {
  ASSERT_EQ(Write({Message("r", 0, "0123456789", true)}), 10);
  EXPECT_EQ(ReadCode("r", 10), grpc::StatusCode::OK);
  EXPECT_EQ(ReadCode("r", 11), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(ReadCode("r", -1), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(ReadCode("r", 0, -1), kInvalid);
  EXPECT_EQ(ReadCode("", 0), kInvalid);
  EXPECT_EQ(ReadCode("absent", 0), grpc::StatusCode::NOT_FOUND);
  std::string back;
  EXPECT_TRUE(Read("r", 3, 0, &back).ok());
  EXPECT_EQ(back, "3456789") << "without a limit: the rest";
  back.clear();
  EXPECT_TRUE(Read("r", 7, INT64_MAX, &back).ok());
  EXPECT_EQ(back, "789");
  host_.missing = 1;
  EXPECT_EQ(ReadCode("r", 0), grpc::StatusCode::DATA_LOSS);
}

TEST_F(ByteStream, F79_ACancelledWriteLeavesItsUpload) {
  const std::string half(300'000, 'x');
  grpc::ClientContext context;
  pb::WriteResponse response;
  const auto call = stub_->Write(&context, &response);
  ASSERT_TRUE(call->Write(Message("c", 0, half, false)));
  ASSERT_TRUE(
      host_.Await([&] { return !host_.content.empty() && host_.content.begin()->second.bytes == half; }));
  context.TryCancel();
  EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Write({Message("c", 300'000, "!", true)}), 300'001);
}

TEST_F(ByteStream, F64_CallsBeyondTheLimitAreRefusedUntilOneEnds) {
  const auto writes = BeginWrites();
  ASSERT_TRUE(host_.Await([&] { return host_.content.size() == kCallsMax; }));  // all of them are there
  pb::QueryWriteStatusResponse status;
  EXPECT_EQ(Query("0", &status).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReadCode("0", 0), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Write({Message("more", 0, "x", true)}), -grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (const auto& write : writes) {
    ASSERT_TRUE(write->call->Write(Message("", 100'000, "", true)));
    EXPECT_TRUE(write->call->Finish().ok());
  }
  // A place is free when the server has let go of the call, just after its end.
  ASSERT_TRUE(host_.Await([&] { return host_.names.size() == kCallsMax; }));
  EXPECT_EQ(AnswerOnceThereIsAPlace({Message("more", 0, "x", true)}), 1);
}

TEST_F(ByteStream, K16_F79_WritesThatSayNothingMoreEndAndGoOnLater) {
  host_.tuned.upload_idle_ttl_ms = 200;
  for (const auto& write : BeginWrites()) {
    const grpc::Status status = write->call->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_THAT(status.error_message(), testing::HasSubstr("nothing came for 200 ms; 100000 bytes"));
  }
  EXPECT_EQ(AnswerOnceThereIsAPlace({Message("more", 0, "x", true)}), 1);
  EXPECT_EQ(Write({Message("3", 100'000, "!", true)}), 100'001) << "what had come is there";
}

TEST_F(ByteStream, K16_F79_AWriteThatNeverSaysAnythingEnds) {
  host_.tuned.upload_idle_ttl_ms = 50;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  pb::WriteResponse response;
  const grpc::Status status = stub_->Write(&context, &response)->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("nothing came for 50 ms"));
}

TEST_F(ByteStream, K16_AWriteIsNotSilentWhileItsServerOwesAnAnswer) {
  host_.tuned.upload_idle_ttl_ms = 50;
  Hold(true);
  grpc::ClientContext waits, ends;
  for (auto* context : {&waits, &ends})
    context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  pb::WriteResponse response, unused;
  const auto call = stub_->Write(&waits, &response);
  EXPECT_TRUE(call->Write(Message("slow", 0, std::string(100'000, 'x'), false)));
  EXPECT_TRUE(host_.Await([&] { return !host_.StreamHost::held.empty(); }));
  // Its time passes, as that of another call shows, which begins later.
  EXPECT_EQ(stub_->Write(&ends, &unused)->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(call->Write(Message("", 100'000, "y", true)));
  EXPECT_TRUE(call->WritesDone());
  Hold(false);
  const grpc::Status status = call->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.committed_size(), 100'001);
}

TEST_F(ByteStream, K16_ASilentWriteKeepsWhatWaitedForMore) {
  host_.tuned.upload_idle_ttl_ms = 200;
  Hold(true);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  pb::WriteResponse response;
  const auto call = stub_->Write(&context, &response);
  EXPECT_TRUE(call->Write(Message("t", 0, std::string(100'000, 'x'), false)));
  EXPECT_TRUE(host_.Await([&] { return !host_.StreamHost::held.empty(); }));
  EXPECT_TRUE(call->Write(Message("", 100'000, "tail", false)));
  Hold(false);
  EXPECT_THAT(call->Finish().error_message(), testing::HasSubstr("100004 bytes"));
  EXPECT_EQ(Write({Message("t", 100'004, "", true)}), 100'004);
  EXPECT_EQ(host_.names["t"], std::string(100'000, 'x') + "tail");
}

TEST_F(ByteStream, K16_F79_ReadsThatTakeNothingEnd) {
  host_.tuned.upload_idle_ttl_ms = 200;
  {
    std::lock_guard lock(host_.mutex);
    host_.names["large"] = std::string(8 << 20, 'x');
  }
  pb::ReadRequest request;
  request.set_resource_name("large");
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<pb::ReadResponse>>> calls;
  for (size_t i = 0; i < kCallsMax; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    contexts.back()->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    calls.push_back(stub_->Read(contexts.back().get(), request));
    calls.back()->WaitForInitialMetadata();  // it is there
  }
  EXPECT_EQ(AnswerOnceThereIsAPlace({Message("more", 0, "x", true)}), 1);
  // None is read before all have ended.
  const Gauge& under_way = NewGauge("sluice_bytestream_calls", "ByteStream calls under way");
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  pb::QueryWriteStatusResponse known;
  while (under_way.Value() > 0 && std::chrono::steady_clock::now() < give_up) Query("more", &known);
  pb::ReadResponse response;
  for (const auto& call : calls) {
    while (call->Read(&response)) {
    }
    const grpc::Status status = call->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_THAT(status.error_message(), testing::HasSubstr("nothing was taken for 200 ms"));
  }
}

TEST_F(ByteStream, D06_PeersFetchByUpload) {
  ByteStreamFetcher fetcher(std::make_unique<GrpcWire>(&server_->links(), ByteStreamFetcher::kFetchesMax));
  const auto fetch = [&](uint64_t call, uint64_t offset, uint64_t count, uint32_t checksum = 0x89abcdef) {
    std::promise<absl::StatusOr<Bytes>> result;
    fetcher.Fetch({.id = {"n0"}, .address = address_}, {kDefaultGroup, {{}, CallId{call}}, 12, checksum},
                  offset, count, &server_->lane(0),
                  [&](absl::StatusOr<Bytes> data) { result.set_value(std::move(data)); });
    return result.get_future().get();
  };
  const auto part = fetch(77, 7, 5);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(*part, "bytes");
  EXPECT_EQ(fetch(77, 7, 6).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(fetch(78, 0, 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fetch(77, 7, 5, 1).status().code(), absl::StatusCode::kDataLoss)
      << "other bytes were wanted (K6)";
}

TEST_F(ByteStream, K8_AReadSaysItsContentAndGoesOnWithThatAlone) {
  {
    std::lock_guard lock(host_.mutex);
    host_.names["a"] = "first content";
  }
  const auto read = [&](const std::string& content, std::string* told) {
    grpc::ClientContext context;
    if (!content.empty()) context.AddMetadata("sluice-content", content);
    pb::ReadRequest request;
    request.set_resource_name("a");
    request.set_read_offset(6);
    auto call = stub_->Read(&context, request);
    pb::ReadResponse response;
    std::string data;
    while (call->Read(&response)) data += response.data();
    const grpc::Status status = call->Finish();
    const auto& metadata = context.GetServerInitialMetadata();
    if (const auto at = metadata.find("sluice-content"); at != metadata.end())
      *told = std::string(at->second.data(), at->second.size());
    return status.ok() ? data : fmt::format("code {}", static_cast<int>(status.error_code()));
  };
  std::string told, again;
  EXPECT_EQ(read("", &told), "content");
  EXPECT_EQ(told.size(), 48u);
  EXPECT_EQ(read(told, &again), "content");
  EXPECT_EQ(told, again);
  {
    std::lock_guard lock(host_.mutex);
    host_.names["a"] = "another content that took its place";
  }
  EXPECT_EQ(read(told, &again), fmt::format("code {}", static_cast<int>(grpc::StatusCode::ABORTED)));
  EXPECT_EQ(read("0123", &again),
            fmt::format("code {}", static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT)));
}

}  // namespace
}  // namespace sluice::edge::bytestream
