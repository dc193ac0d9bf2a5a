#include <errno.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>
#include <deque>

#include "edge/datastream/server.h"
#include "edge/files/errors.h"
#include "edge/files/files_host_for_test.h"
#include "edge/files/get_call.h"
#include "edge/files/service.h"
#include "edge/files/stream_totals.h"
#include "edge/http/stream_metrics.h"
#include "sluice/admin.grpc.pb.h"
#include "sluice/stream.h"

namespace sluice::edge::files {
namespace {

using testing::HasSubstr;

constexpr uint32_t kFilesMax = 8;

std::string RawDigest(const std::string& data) { return std::string(DigestOf(data).AsBytes()); }

std::string Pattern(size_t size) {
  std::string data(size, ' ');
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 11 + i / 777);
  return data;
}

// The client's end of one stream.
class Client final : public StreamInputHandler {
 public:
  int on_received_messages(StreamId, Bytes* const messages[], size_t size) override {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&reads_));
    for (size_t i = 0; i < size; ++i) {
      const std::string message = messages[i]->ToString();
      kinds_ += message[0] == 'D' && kinds_.ends_with('D') ? "" : message.substr(0, 1);
      if (message[0] == 'D') data_ += message.substr(1);
      if (message[0] == 'H') {
        EXPECT_TRUE(header_.ParseFromString(message.substr(1)));
      }
      if (message[0] == 'R') has_result_ = result_.ParseFromString(message.substr(1));
    }
    return 0;
  }
  void on_closed(StreamId) override {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

  void Read(bool reads) {
    absl::MutexLock lock(&mutex_);
    reads_ = reads;
  }
  // The result, or that the stream ended without one (UNKNOWN).
  FileResult AwaitResult() {
    absl::MutexLock lock(&mutex_);
    const auto over = [this] { return has_result_ || closed_; };
    mutex_.Await(absl::Condition(&over));
    if (!has_result_) result_.set_code(FILE_UNKNOWN);
    return result_;
  }
  void AwaitClosed() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&closed_));
  }
  std::string data() {
    absl::MutexLock lock(&mutex_);
    return data_;
  }
  std::string kinds() {  // in order, runs of D as one
    absl::MutexLock lock(&mutex_);
    return kinds_;
  }
  FileGetHeader header() {
    absl::MutexLock lock(&mutex_);
    return header_;
  }
  StreamId id = kInvalidStreamId;

 private:
  absl::Mutex mutex_;
  bool reads_ = true;
  bool has_result_ = false;
  bool closed_ = false;
  std::string kinds_;
  std::string data_;
  FileGetHeader header_;
  FileResult result_;
};

class Files : public testing::Test {
 protected:
  Files() { Start(); }
  ~Files() override {
    for (Client& client : clients_) StreamClose(client.id);
    for (Client& client : clients_) client.AwaitClosed();
    server_->Stop(std::chrono::milliseconds(200));
  }

  void Start() {
    server_ = *Server::Create(&host_, {.listen = "127.0.0.1:0", .lane_loops = 2});
    FilesOptions options{.listen = "127.0.0.1:0", .http_listen = "127.0.0.1:7403"};
    options.limits.files_max = kFilesMax;
    options.limits.streams_per_connection_max = streams_max_;
    auto part = std::make_unique<FilesPart>(&host_, datastream::LanesOf(*server_), options);
    part_ = part.get();
    server_->Add(std::move(part));
    ASSERT_TRUE(server_->Listen().ok());
    channel_ = *Channel::Create(fmt::format("127.0.0.1:{}", part_->port()), {.timeout_ms = 10'000});
  }

  // The call's error code.
  template <typename Request, typename Response>
  int Open(const std::string& method, const Request& request, Client** client) {
    *client = &clients_.emplace_back();
    StreamOptions options;
    options.handler = *client;
    Controller controller;
    EXPECT_EQ(StreamCreate(&(*client)->id, controller, &options), 0);
    Response response;
    channel_->Call("sluice.FileService", method, controller, request, &response);
    return controller.ErrorCode();
  }
  Client* OpenPut(const std::string& group = "") {
    FilePutRequest request;
    request.set_group(group);
    Client* client = nullptr;
    EXPECT_EQ((Open<FilePutRequest, FilePutResponse>("Put", request, &client)), 0);
    return client;
  }
  // False once the stream has ended.
  static bool Send(Client* client, const std::string& record) {
    const Bytes message = Bytes::Copy(record);
    int result = 0;
    while ((result = StreamWrite(client->id, message)) == EAGAIN) {
      if (StreamWait(client->id, nullptr) != 0) return false;
    }
    return result == 0;
  }
  static std::string H(const std::string& name, std::optional<uint64_t> length = {},
                       const std::string& digest = "") {
    FilePutHeader header;
    header.set_name(name);
    if (length) header.set_length(*length);
    header.set_digest(digest);
    return "H" + header.SerializeAsString();
  }
  static std::string E(std::optional<uint64_t> length = {}, const std::string& digest = "") {
    FilePutEnd end;
    if (length) end.set_length(*length);
    end.set_digest(digest);
    return "E" + end.SerializeAsString();
  }
  FileResult Put(const std::vector<std::string>& records, const std::string& group = "") {
    Client* client = OpenPut(group);
    for (const std::string& record : records) {
      if (!Send(client, record)) break;
    }
    FileResult result = client->AwaitResult();
    StreamClose(client->id);
    return result;
  }
  FileCode PutCode(const std::vector<std::string>& records) { return Put(records).code(); }

  Client* OpenGet(const std::string& name, uint64_t offset = 0, uint64_t limit = 0,
                  const std::string& group = "", const std::string& content_id = "") {
    FileGetRequest request;
    request.set_content(content_id);
    request.set_group(group);
    request.set_name(name);
    request.set_offset(offset);
    request.set_limit(limit);
    Client* client = nullptr;
    EXPECT_EQ((Open<FileGetRequest, FileGetResponse>("Get", request, &client)), 0);
    return client;
  }
  FileCode Get(const std::string& name, std::string* out, uint64_t offset = 0, uint64_t limit = 0) {
    Client* client = OpenGet(name, offset, limit);
    FileResult result = client->AwaitResult();
    *out = client->data();
    if (result.code() == FILE_OK) {
      EXPECT_EQ(result.length(), out->size());
      EXPECT_EQ(client->header().count(), out->size());
    }
    StreamClose(client->id);
    return result.code();
  }
  FileCode GetCode(const std::string& name, uint64_t offset = 0) {
    std::string ignored;
    return Get(name, &ignored, offset);
  }
  std::string Stored(const std::string& name) {
    std::lock_guard lock(host_.mutex);
    return host_.names[name];
  }

  FilesHost host_;
  std::deque<Client> clients_;
  std::unique_ptr<Server> server_;
  FilesPart* part_ = nullptr;
  std::unique_ptr<Channel> channel_;
  uint32_t streams_max_ = StreamLimits().streams_per_connection_max;  // of a connection, for the next Start
};

TEST(FileCodes, AreTheCanonicalOnesInBothDirections) {
  for (int code = FileCode_MIN; code <= FileCode_MAX; ++code) {
    const auto canonical = static_cast<absl::StatusCode>(code);
    EXPECT_EQ(FileCode_Name(static_cast<FileCode>(code)), "FILE_" + absl::StatusCodeToString(canonical));
    const absl::Status status = ToStatus(code, "why");
    EXPECT_EQ(status.code(), canonical);
    EXPECT_EQ(ToCode(status), code);
    EXPECT_EQ(Message(status), code == 0 ? "" : "why");
  }
  EXPECT_EQ(FileCode_MAX, 16) << "all of them";
  for (const int unknown : {-1, 17, 1003}) {
    EXPECT_EQ(ToStatus(unknown, "why").code(), absl::StatusCode::kUnknown);
    EXPECT_THAT(std::string(Message(ToStatus(unknown, "why"))), HasSubstr(fmt::format("{}", unknown)));
  }
}

TEST_F(Files, WhatIsPutIsGotBack) {
  for (const size_t size : {0u, 1u, 1000u, 64u << 10, (64u << 10) + 1, 5u << 20}) {
    const std::string name = fmt::format("dir/{}", size);
    const std::string data = Pattern(size);
    std::vector<std::string> records{H(name)};
    for (size_t at = 0; at < size; at += 300'000) records.push_back("D" + data.substr(at, 300'000));
    records.push_back(E(size, RawDigest(data)));
    const FileResult result = Put(records);
    EXPECT_EQ(result.code(), FILE_OK) << size << ": " << result.text();
    EXPECT_EQ(result.length(), size);
    EXPECT_EQ(result.digest(), RawDigest(data));
    std::string back;
    EXPECT_EQ(Get(name, &back), FILE_OK) << size;
    EXPECT_TRUE(back == data) << size;
  }
  EXPECT_EQ(host_.inlined, 4) << "up to 64 KiB";
}

TEST_F(Files, D16_ASmallBlobOfManyRecordsIsNoUpload) {
  EXPECT_EQ(PutCode({H("s"), "Da", "D", "Db", E()}), FILE_OK);
  EXPECT_EQ(Stored("s"), "ab");
  EXPECT_EQ(PutCode({H("announced", 2), "Dab", E()}), FILE_OK);
  EXPECT_EQ(host_.inlined, 2);
  EXPECT_TRUE(host_.content.empty());
}

TEST_F(Files, ManySmallRecordsMakeOneLargeBlob) {
  std::vector<std::string> records{H("many")};
  std::string data;
  for (int i = 0; i < 20'000; ++i) {
    const std::string part = fmt::format("{:07}", i);
    data += part;
    records.push_back("D" + part);
  }
  records.push_back(E(data.size()));
  EXPECT_EQ(PutCode(records), FILE_OK);
  EXPECT_TRUE(Stored("many") == data);
}

TEST_F(Files, TheDigestIsANameToo) {
  const std::string data = Pattern(200'000);
  const std::string name = "sha256:" + DigestOf(data).ToHex();
  EXPECT_EQ(PutCode({H(""), "D" + data, E()}), FILE_OK);
  EXPECT_TRUE(Stored(name) == data);
  EXPECT_EQ(PutCode({H(name), "D" + data, E()}), FILE_OK);
  EXPECT_EQ(PutCode({H(name), "D" + data + "x", E()}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({H(name, {}, RawDigest("other")), "Dx", E()}), FILE_INVALID_ARGUMENT);
}

TEST_F(Files, AWrongDigestOrLengthIsRefusedWhereverItStands) {
  for (const size_t size : {size_t{10}, size_t{300'000}}) {  // inside the log, and as an upload
    const std::string data = Pattern(size);
    const std::string wrong = RawDigest("other");
    const std::string d = "D" + data;
    EXPECT_EQ(PutCode({H("w", {}, wrong), d, E()}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w"), d, E({}, wrong)}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w", {}, RawDigest(data)), d, E({}, wrong)}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w", size + 1), d, E()}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w", size - 1), d}), FILE_INVALID_ARGUMENT) << "at once";
    EXPECT_EQ(PutCode({H("w"), d, E(size + 1)}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w", size), d, E(size - 1)}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w", {}, "short"), d, E()}), FILE_INVALID_ARGUMENT);
    EXPECT_EQ(PutCode({H("w"), d, E({}, "short")}), FILE_INVALID_ARGUMENT);
  }
  EXPECT_EQ(host_.NamesStored(), 0u);
}

TEST_F(Files, TheSameBytesAgainAreFineAndOthersAreNot) {
  for (const size_t size : {size_t{10}, size_t{300'000}}) {
    const std::string name = fmt::format("{}", size);
    const std::string data = Pattern(size);
    EXPECT_EQ(PutCode({H(name), "D" + data, E()}), FILE_OK);
    EXPECT_EQ(PutCode({H(name), "D" + data, E()}), FILE_OK);
    EXPECT_EQ(PutCode({H(name), "D" + data + "!", E()}), FILE_ALREADY_EXISTS);
    EXPECT_TRUE(Stored(name) == data);
  }
}

TEST_F(Files, F74_RecordsThatBreakTheRulesAreRefused) {
  const std::string cas = "uploads/u/blobs/" + std::string(64, 'a') + "/1";
  EXPECT_EQ(PutCode({""}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({"X"}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({"R"}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({"Dearly"}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({E()}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({H("a"), H("a")}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({"H\xff\xff"}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({"H" + std::string(64 << 10, 'x')}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({H("a"), "E\xff\xff"}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({H(std::string(2000, 'n'))}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({H("sha256:ABC")}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(PutCode({H(cas)}), FILE_UNIMPLEMENTED);
  FilePutHeader nameless;
  nameless.set_no_digest(true);
  EXPECT_EQ(PutCode({"H" + nameless.SerializeAsString()}), FILE_INVALID_ARGUMENT);
  nameless.set_name("x");
  EXPECT_EQ(PutCode({"H" + nameless.SerializeAsString(), E({}, RawDigest(""))}), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(Put({H("a"), E()}, "no uuid").code(), FILE_INVALID_ARGUMENT);
  const std::string elsewhere = "11111111-2222-3333-4444-555555555555";
  EXPECT_EQ(Put({H("a"), "Dx", E()}, elsewhere).code(), FILE_NOT_FOUND);
  EXPECT_EQ(Put({H("a"), "D" + Pattern(100'000), E()}, elsewhere).code(), FILE_NOT_FOUND);
  EXPECT_EQ(host_.NamesStored(), 0u);
  EXPECT_EQ(PutCode({H("fine"), "Dx", E(), "Dlate", H("late"), ""}), FILE_OK) << "behind E nothing counts";
  EXPECT_EQ(Stored("fine"), "x");
}

TEST_F(Files, HoldersAreToldIfAskedFor) {
  FilePutHeader header;
  header.set_name("h");
  header.set_no_digest(true);
  header.set_tell_holders(true);
  const FileResult result = Put({"H" + header.SerializeAsString(), "Dx", E()});
  EXPECT_EQ(result.code(), FILE_OK);
  EXPECT_THAT(result.holders(), testing::ElementsAre("n0", "n2"));
  EXPECT_EQ(Put({H("g"), "Dx", E()}).holders_size(), 0);
}

TEST_F(Files, F76_GetsReadWhatTheyAskForAndNothingElse) {
  ASSERT_EQ(PutCode({H("r"), "D0123456789", E()}), FILE_OK);
  std::string back;
  EXPECT_EQ(Get("r", &back, 3), FILE_OK);
  EXPECT_EQ(back, "3456789");
  EXPECT_EQ(Get("r", &back, 3, 4), FILE_OK);
  EXPECT_EQ(back, "3456");
  EXPECT_EQ(Get("r", &back, 7, UINT64_MAX), FILE_OK);
  EXPECT_EQ(back, "789");
  EXPECT_EQ(Get("r", &back, 10), FILE_OK);
  EXPECT_EQ(back, "");
  EXPECT_EQ(GetCode("r", 11), FILE_OUT_OF_RANGE);
  EXPECT_EQ(GetCode("r", UINT64_MAX), FILE_OUT_OF_RANGE);
  EXPECT_EQ(GetCode("absent"), FILE_NOT_FOUND);
  EXPECT_EQ(GetCode(""), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(GetCode("uploads/u/blobs/" + std::string(64, 'a') + "/1"), FILE_UNIMPLEMENTED);
  EXPECT_EQ(OpenGet("r", 0, 0, "no uuid")->AwaitResult().code(), FILE_INVALID_ARGUMENT);

  Client* const whole = OpenGet("r", 2);
  EXPECT_EQ(whole->AwaitResult().code(), FILE_OK);
  EXPECT_EQ(whole->kinds(), "HDR");
  EXPECT_EQ(whole->header().length(), 10u);
  EXPECT_EQ(whole->header().digest(), RawDigest("0123456789"));
  EXPECT_THAT(whole->header().holders(), testing::ElementsAre("n0", "n1"));
  EXPECT_EQ(OpenGet("absent")->AwaitResult().code(), FILE_NOT_FOUND);
  host_.missing = 1;
  EXPECT_EQ(GetCode("r"), FILE_DATA_LOSS) << "never fewer bytes that look whole";
}

TEST_F(Files, K8_AGetThatGoesOnGetsItsOwnContentOrNothing) {
  ASSERT_EQ(PutCode({H("r"), "D0123456789", E()}), FILE_OK);
  Client* const first = OpenGet("r");
  EXPECT_EQ(first->AwaitResult().code(), FILE_OK);
  const std::string content_id = first->header().content();
  EXPECT_EQ(content_id.size(), 48u);
  Client* const rest = OpenGet("r", 6, 0, "", content_id);
  EXPECT_EQ(rest->AwaitResult().code(), FILE_OK);
  EXPECT_EQ(rest->data(), "6789");
  {
    std::lock_guard lock(host_.mutex);
    host_.names["r"] = "other bytes";
  }
  EXPECT_EQ(OpenGet("r", 6, 0, "", content_id)->AwaitResult().code(), FILE_ABORTED);
  EXPECT_EQ(OpenGet("r", 6, 0, "", "no id")->AwaitResult().code(), FILE_INVALID_ARGUMENT);
}

TEST_F(Files, F79_APutThatEndsInTheMiddleLeavesNothingToBeSeen) {
  const std::string half = Pattern(300'000);
  Client* const closed = OpenPut();
  ASSERT_TRUE(Send(closed, H("c")));
  ASSERT_TRUE(Send(closed, "D" + half));
  ASSERT_TRUE(
      host_.Await([&] { return !host_.content.empty() && host_.content.begin()->second.bytes == half; }));
  StreamClose(closed->id);
  Client* const cut = OpenPut();
  ASSERT_TRUE(Send(cut, H("d")));
  ASSERT_TRUE(Send(cut, "D" + half));
  ASSERT_TRUE(host_.Await([&] { return host_.content.size() == 2; }));
  channel_.reset();  // the connection goes
  cut->AwaitClosed();
  channel_ = *Channel::Create(fmt::format("127.0.0.1:{}", part_->port()), {.timeout_ms = 10'000});
  EXPECT_EQ(GetCode("c"), FILE_NOT_FOUND);
  EXPECT_EQ(GetCode("d"), FILE_NOT_FOUND);
  EXPECT_EQ(PutCode({H("c"), "D" + half, E()}), FILE_OK) << "the name is free";
}

TEST_F(Files, F64_CallsBeyondTheLimitAreRefusedUntilOneEnds) {
  std::vector<Client*> open;
  for (uint32_t i = 0; i < kFilesMax; ++i) open.push_back(OpenPut());
  Client* client = nullptr;
  EXPECT_EQ((Open<FilePutRequest, FilePutResponse>("Put", FilePutRequest(), &client)), kTooManyCalls);
  EXPECT_EQ((Open<FileGetRequest, FileGetResponse>("Get", FileGetRequest(), &client)), kTooManyCalls);
  StreamClose(open[0]->id);
  int code = kTooManyCalls;  // the place is free just after the server has heard of the end
  for (int i = 0; i < 1000 && code == kTooManyCalls; ++i) {
    code = Open<FilePutRequest, FilePutResponse>("Put", FilePutRequest(), &client);
  }
  EXPECT_EQ(code, 0);
}

TEST_F(Files, K16_ACallWhoseStreamFindsNoPlaceKeepsNone) {
  channel_.reset();
  server_->Stop(std::chrono::milliseconds(100));
  streams_max_ = 1;
  Start();
  {
    std::lock_guard lock(host_.mutex);
    host_.names["a"] = "content";
  }
  Client* const held = OpenGet("a");
  EXPECT_EQ(held->AwaitResult().code(), FILE_OK);
  for (uint32_t i = 0; i < kFilesMax + 1; ++i) {
    FileGetRequest request;
    request.set_name("a");
    Client* refused = nullptr;
    EXPECT_EQ((Open<FileGetRequest, FileGetResponse>("Get", request, &refused)), kNoStreamCame) << i;
  }
  const std::unique_ptr<Channel> full = std::exchange(
      channel_, *Channel::Create(fmt::format("127.0.0.1:{}", part_->port()), {.timeout_ms = 10'000}));
  EXPECT_EQ(GetCode("a"), FILE_OK);
}

TEST_F(Files, ACallWithoutExactlyOneStreamIsRefused) {
  Controller none;
  FilePutResponse response;
  channel_->Call("sluice.FileService", "Put", none, FilePutRequest(), &response);
  EXPECT_EQ(none.ErrorCode(), EINVAL);
  Controller two;
  StreamIds ids;
  ASSERT_EQ(StreamCreate(ids, 2, two, nullptr), 0);
  channel_->Call("sluice.FileService", "Put", two, FilePutRequest(), &response);
  EXPECT_EQ(two.ErrorCode(), EINVAL);
}

TEST_F(Files, ASlowReaderStallsOnlyItself) {
  const std::string data = Pattern(24 << 20);
  {
    std::lock_guard lock(host_.mutex);
    host_.names["large"] = data;
  }
  Client* const slow = &clients_.emplace_back();
  slow->Read(false);
  StreamOptions options;
  options.handler = slow;
  Controller controller;
  ASSERT_EQ(StreamCreate(&slow->id, controller, &options), 0);
  FileGetRequest request;
  request.set_name("large");
  FileGetResponse response;
  channel_->Call("sluice.FileService", "Get", controller, request, &response);
  ASSERT_FALSE(controller.Failed());
  std::string back;
  EXPECT_EQ(Get("large", &back), FILE_OK);
  EXPECT_TRUE(back == data);
  uint64_t sent = 0;  // to the slow one, which has consumed nothing
  for (const StreamInfo& info : ListStreams()) sent = std::max(sent, info.unconsumed_bytes);
  EXPECT_LE(sent, (4u << 20) + GetCall::kDataBytes + 1);
  slow->Read(true);
  EXPECT_EQ(slow->AwaitResult().code(), FILE_OK);
  EXPECT_TRUE(slow->data() == data);
}

TEST_F(Files, APutIsConsumedAsFastAsTheUploadTakesIt) {
  {
    std::lock_guard lock(host_.mutex);
    host_.hold_answers = true;
  }
  Client* const client = OpenPut();
  ASSERT_TRUE(Send(client, H("slow")));
  const std::string record = "D" + Pattern(100'000);
  int sent = 0;
  while (StreamWrite(client->id, Bytes::Copy(record)) == 0) ++sent;  // until the window is full
  EXPECT_LE(sent, 22);
  EXPECT_GE(sent, 20);
  // Another one goes its way, inside the log.
  EXPECT_EQ(PutCode({H("quick"), "Dx", E()}), FILE_OK);
  ASSERT_TRUE(host_.Await([&] { return !host_.held.empty(); }));
  std::vector<absl::AnyInvocable<void()>> held;
  {
    std::lock_guard lock(host_.mutex);
    host_.hold_answers = false;
    held = std::exchange(host_.held, {});
  }
  for (auto& answer : held) answer();
  EXPECT_EQ(StreamWait(client->id, nullptr), 0);
  ASSERT_TRUE(Send(client, E(static_cast<uint64_t>(sent) * 100'000)));
  EXPECT_EQ(client->AwaitResult().code(), FILE_OK);
}

TEST_F(Files, AClientThatSaysNothingIsToldThatItIsLate) {
  channel_.reset();
  server_->Stop(std::chrono::milliseconds(100));
  host_.tuned.upload_idle_ttl_ms = 30;
  Start();
  Client* const mute = OpenPut();
  EXPECT_EQ(mute->AwaitResult().code(), FILE_DEADLINE_EXCEEDED);
  Client* const half = OpenPut();
  ASSERT_TRUE(Send(half, H("x")));
  EXPECT_EQ(half->AwaitResult().code(), FILE_DEADLINE_EXCEEDED);
}

TEST_F(Files, APersonWithABrowserIsSentToTheHttpPort) {
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  socket.connect({asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(part_->port())});
  asio::write(socket, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n")));
  std::string answer;
  std::error_code ended;
  asio::read(socket, asio::dynamic_buffer(answer), ended);
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 400"));
  EXPECT_THAT(answer, HasSubstr("http://127.0.0.1:7403/metrics"));
}

TEST_F(Files, StreamsAreCountedOnceWhetherTheyHaveEndedOrNot) {
  const StreamTotals before = TotalsOfStreams();
  EXPECT_EQ(before.open, 0u);
  const std::string data = Pattern(50'000);
  Client* const open = OpenPut();
  ASSERT_TRUE(Send(open, "X"));
  EXPECT_EQ(open->AwaitResult().code(), FILE_INVALID_ARGUMENT);
  EXPECT_EQ(TotalsOfStreams().open, 1u);
  EXPECT_EQ(TotalsOfStreams().messages_in, before.messages_in + 1);
  ASSERT_EQ(PutCode({H("t"), "D" + data, E()}), FILE_OK);
  std::string back;
  ASSERT_EQ(Get("t", &back), FILE_OK);
  server_->Stop(std::chrono::milliseconds(100));  // every stream has ended
  const StreamTotals after = TotalsOfStreams();
  EXPECT_EQ(after.open, 0u);
  EXPECT_EQ(after.unconsumed_bytes, 0u);
  EXPECT_EQ(after.messages_in, before.messages_in + 4);
  EXPECT_EQ(after.messages_out, before.messages_out + 5) << "R, R, and H D R";
  EXPECT_EQ(after.bytes_in, before.bytes_in + 1 + H("t").size() + 1 + data.size() + E().size());
  EXPECT_GE(after.bytes_out, before.bytes_out + data.size());

  std::map<std::string, double> metrics;
  for (const auto& family : http::StreamMetrics().Collect()) {
    ASSERT_EQ(family.metric.size(), 1u);
    const auto& metric = family.metric.front();
    metrics[family.name] = family.name.ends_with("_total") ? metric.counter.value : metric.gauge.value;
  }
  EXPECT_EQ(metrics.at("sluice_streams_open"), 0);
  EXPECT_EQ(metrics.at("sluice_streams_unconsumed_bytes"), 0);
  EXPECT_EQ(metrics.at("sluice_streams_bytes_in_total"), static_cast<double>(after.bytes_in));
  EXPECT_EQ(metrics.at("sluice_streams_bytes_out_total"), static_cast<double>(after.bytes_out));
  EXPECT_EQ(metrics.at("sluice_streams_messages_in_total"), static_cast<double>(after.messages_in));
  EXPECT_EQ(metrics.at("sluice_streams_messages_out_total"), static_cast<double>(after.messages_out));
  EXPECT_EQ(metrics.at("sluice_streams_stalls_total"), static_cast<double>(after.stalls));
}

TEST_F(Files, TheCommandLineSeesOpenStreamsUpToItsLimit) {
  Client* const first = OpenPut();
  Client* const second = OpenPut();
  ASSERT_TRUE(Send(first, H("a")));
  ASSERT_TRUE(Send(second, "X"));
  EXPECT_EQ(second->AwaitResult().code(), FILE_INVALID_ARGUMENT);
  const auto admin = ::sluice::admin::Admin::NewStub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", server_->port()), grpc::InsecureChannelCredentials()));
  const auto ask = [&](uint32_t limit) {
    grpc::ClientContext context;
    ::sluice::admin::StreamsRequest request;
    request.set_limit(limit);
    ::sluice::admin::StreamsReply reply;
    EXPECT_TRUE(admin->Streams(&context, request, &reply).ok());
    return reply;
  };
  const auto all = ask(0);
  ASSERT_EQ(all.streams_size(), 4) << "both ends are in this process";
  EXPECT_FALSE(all.more());
  EXPECT_TRUE(std::any_of(all.streams().begin(), all.streams().end(), [](const auto& stream) {
    return stream.bytes_in() == 1 && stream.messages_in() == 1 && stream.messages_out() == 1 &&
           stream.window_bytes() == 4 << 20 && !stream.peer().empty() && stream.remote_id() >= 0;
  })) << all.ShortDebugString();
  const auto some = ask(3);
  EXPECT_EQ(some.streams_size(), 3);
  EXPECT_TRUE(some.more());
  EXPECT_LT(some.streams(0).id(), some.streams(1).id()) << "oldest first";
}

TEST_F(Files, AServerThatEndsEndsItsStreams) {
  Client* const client = OpenPut();
  ASSERT_TRUE(Send(client, H("e")));
  part_->Drain();
  Client* refused = nullptr;
  EXPECT_EQ((Open<FilePutRequest, FilePutResponse>("Put", FilePutRequest(), &refused)), 2003);
  EXPECT_TRUE(Send(client, "Dx")) << "open streams go on";
  server_->Stop(std::chrono::milliseconds(100));
  client->AwaitClosed();
  EXPECT_EQ(host_.NamesStored(), 0u);
}

}  // namespace
}  // namespace sluice::edge::files
