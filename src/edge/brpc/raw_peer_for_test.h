// A baidu_std peer made of a blocking socket and hand-made frames, for tests:
// what it sends and takes are bytes.
//
//   RawPeer peer = RawPeer::Connect(server.port());
//   peer.Send(Request(7, "echo", {.id = 3}));
//   EXPECT_EQ(peer.Word(), "CLOSE 3<0");              // the next frame, as stream_words.h writes it
//
// Threading: one thread. Failure: a read that gets nothing for ten seconds gives "SILENCE";
// the end of the connection is "END".
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "wire/brpc/meta.h"
#include "wire/brpc/stream_words.h"

namespace sluice::edge::brpc {

class RawPeer {
 public:
  explicit RawPeer(int fd) : fd_(fd) {
    const int on = 1;
    (void)setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    SetPatience(10'000);
  }
  RawPeer(RawPeer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~RawPeer() { End(); }

  static RawPeer Connect(int port) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(port);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return RawPeer(fd);
  }
  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  void End() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  void SetPatience(int ms) {
    const timeval patience{.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  }
  // False when the other side takes no more.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  void SendByteByByte(std::string_view bytes) {
    for (const char& byte : bytes) ASSERT_TRUE(Send({&byte, 1}));
  }
  // Exactly `count` bytes; fewer at the end.
  std::string Take(size_t count) {
    std::string taken(count, 0);
    size_t got = 0;
    while (got < count) {
      const ssize_t n = recv(fd_, taken.data() + got, count - got, 0);
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) silent_ = true;
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    taken.resize(got);
    return taken;
  }
  // One whole frame; empty at the end of the connection.
  std::string TakeFrame() {
    std::string frame = Take(wire::brpc::kFrameFrontBytes);
    if (frame.size() < wire::brpc::kFrameFrontBytes) return "";
    uint32_t body = 0;
    for (size_t i = 4; i < 8; ++i) body = body << 8 | static_cast<unsigned char>(frame[i]);
    return frame + Take(body);
  }
  std::string Word() {
    silent_ = false;
    const std::string frame = TakeFrame();
    if (frame.empty()) return silent_ ? "SILENCE" : "END";
    return wire::brpc::Words(frame).front();
  }
  // The next one that is not FEEDBACK, whose order to the others is nobody's promise.
  std::string WordButFeedback() {
    while (true) {
      std::string word = Word();
      if (!word.starts_with("FEEDBACK")) return word;
    }
  }
  std::string TakeAll() {
    std::string all;
    for (std::string more = Take(4096); !more.empty(); more = Take(4096)) all += more;
    return all;
  }

 private:
  int fd_;
  bool silent_ = false;
};

class RawListener {
 public:
  RawListener() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = RawPeer::Loopback(0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~RawListener() { close(fd_); }
  RawListener(const RawListener&) = delete;
  RawListener& operator=(const RawListener&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  RawPeer Accept() { return RawPeer(accept(fd_, nullptr, nullptr)); }

 private:
  const int fd_;
  int port_ = 0;
};

// The message { required string message = 1 } of the examples; texts below 128 bytes.
inline std::string EchoMessage(const std::string& text) {
  return std::string("\n") + static_cast<char>(text.size()) + text;
}
inline std::string EchoText(const Bytes& message) {
  return message.size() < 2 ? "" : message.ToString().substr(2);
}

struct Settings {
  int64_t id = 3;
  bool need_feedback = true;
  bool writable = true;
  std::vector<int64_t> extra_ids = {};
};

inline void Fill(const Settings& settings, wire::brpc::RpcMeta* meta) {
  meta->mutable_stream_settings()->set_stream_id(settings.id);
  meta->mutable_stream_settings()->set_need_feedback(settings.need_feedback);
  meta->mutable_stream_settings()->set_writable(settings.writable);
  for (const int64_t id : settings.extra_ids) meta->mutable_stream_settings()->add_extra_stream_ids(id);
}

inline std::string Request(int64_t correlation, const std::string& text,
                           const std::optional<Settings>& settings = {}) {
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name("example.EchoService");
  meta.mutable_request()->set_method_name("Echo");
  meta.set_correlation_id(correlation);
  if (settings) Fill(*settings, &meta);
  return wire::brpc::EncodeCall(meta, Bytes::Copy(EchoMessage(text)), {}).ToString();
}

// A PRPC answer; not wrapped.
inline std::string Response(int64_t correlation, int code, const std::optional<Settings>& settings = {}) {
  wire::brpc::RpcMeta meta;
  meta.mutable_response()->set_error_code(code);
  if (code != 0) meta.mutable_response()->set_error_text("[E" + std::to_string(code) + "]by the raw peer");
  meta.set_correlation_id(correlation);
  if (settings) Fill(*settings, &meta);
  return wire::brpc::EncodeCall(meta, Bytes::Copy(code == 0 ? EchoMessage("ok") : ""), {}).ToString();
}

// What a frame says; the answer of a call also when it is wrapped in a frame of a stream.
struct Parsed {
  bool is_stream = false;
  wire::brpc::StreamMeta stream;
  std::string payload;  // tidy-allow: a test compares it as text
  std::optional<wire::brpc::CallFrame> call;
};

inline Parsed Parse(const std::string& frame) {
  Parsed parsed;
  wire::brpc::FrameReader reader;
  reader.Feed(Bytes::Copy(frame));
  wire::brpc::FrameEvent event;
  if (!reader.Next(&event).value_or(false)) return parsed;
  if (event.kind == wire::brpc::FrameEvent::Kind::kCall) {
    auto call = wire::brpc::DecodeCall(event.meta, std::move(event.body));
    if (call.ok()) parsed.call = *std::move(call);
    return parsed;
  }
  parsed.is_stream = true;
  parsed.stream = event.stream;
  parsed.payload = event.body.ToString();
  if (parsed.payload.starts_with("PRPC")) parsed.call = Parse(parsed.payload).call;
  return parsed;
}

// Opens a stream with a request of that text; the answer. Our server's ids are 0, 1, ... on each connection.
inline Parsed Open(RawPeer& peer, const std::string& text, const Settings& settings = {},
                   int64_t correlation = 7) {
  EXPECT_TRUE(peer.Send(Request(correlation, text, settings)));
  Parsed answer = Parse(peer.TakeFrame());
  EXPECT_TRUE(answer.is_stream && answer.call) << "an answer, wrapped";
  if (!answer.call) return answer;
  EXPECT_EQ(answer.stream.to, settings.id);
  EXPECT_EQ(answer.call->meta.correlation_id(), correlation);
  return answer;
}
inline int CodeOf(const Parsed& answer) {
  return answer.call ? answer.call->meta.response().error_code() : -1;
}
inline void OpenOk(RawPeer& peer, const std::string& text, const Settings& settings = {}) {
  const Parsed answer = Open(peer, text, settings);
  EXPECT_EQ(CodeOf(answer), 0);
  EXPECT_TRUE(answer.call && answer.call->meta.has_stream_settings());
}
// The connection works: a call without a stream is answered, and nothing else comes before.
inline void ExpectAlive(RawPeer& peer, int64_t correlation = 99) {
  ASSERT_TRUE(peer.Send(Request(correlation, "plain")));
  const Parsed answer = Parse(peer.TakeFrame());
  ASSERT_TRUE(answer.call.has_value() && !answer.is_stream);
  EXPECT_EQ(answer.call->meta.correlation_id(), correlation);
  EXPECT_EQ(CodeOf(answer), 0);
}

}  // namespace sluice::edge::brpc
