// One TCP connection to a DataStream port: packets out, their replies in order, a bounded window between.
//
//   ASSIGN_OR_RETURN(auto stream, StreamConnection::Open("127.0.0.1:7401", {}));
//   RETURN_IF_ERROR(stream->Send(header, payload, nullptr));
//   RETURN_IF_ERROR(stream->SendFile(data_header, fd, 0, nullptr));   // sendfile: no copy in this process
//   RETURN_IF_ERROR(stream->Drain());                                  // everything is answered
//
// Threading: Send, SendFile and Drain block and may be called from one thread at a time; callbacks run on the
// connection's own thread. Failure: the first error (a refusal by the server, a broken connection, a server
// that is silent for `silence`) is kept, given to every callback that waits,
// and returned by every later call.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "base/bytes.h"
#include "base/status.h"
#include "client/connection.h"
#include "wire/datastream.h"

namespace sluice::client {

struct StreamConnectionOptions {
  Duration connect_timeout = std::chrono::seconds(3);
  Duration silence = std::chrono::seconds(30);         // no reply although one is due
  Duration close_silence = std::chrono::seconds(120);  // the same for CLOSE, which waits for the disks
  uint64_t window_bytes = 8u << 20;                    // sent and not yet answered
  // Asked, on the connection's thread, again and again while an answer that is due does not come: a server that
  // is slow says true by other ways, one that is frozen does not, and is left. Null: nobody is asked.
  std::function<bool()> alive = nullptr;
};

class StreamConnection {
 public:
  using OnReply = absl::AnyInvocable<void(absl::StatusOr<wire::DataStreamReply>)>;

  static absl::StatusOr<std::unique_ptr<StreamConnection>> Open(const std::string& address,
                                                                StreamConnectionOptions options);
  ~StreamConnection();  // closes; callbacks that wait get CANCELLED before it returns
  StreamConnection(const StreamConnection&) = delete;
  StreamConnection& operator=(const StreamConnection&) = delete;

  // Waits for room in the window and for the socket. `on_reply` may be null.
  absl::Status Send(wire::PacketHeader header, const Bytes& payload, OnReply on_reply);
  // The payload is header.data_length bytes of `fd` from `file_offset`. DATA_LOSS if the file is shorter: the
  // connection is then dead, because the frame cannot be completed.
  absl::Status SendFile(const wire::PacketHeader& header, int fd, uint64_t file_offset, OnReply on_reply);
  // Waits until everything is answered.
  absl::Status Drain();
  // Bytes of data packets that the server has answered.
  uint64_t answered_bytes() const;

 private:
  struct Waiting {
    wire::PacketHeader header;
    OnReply on_reply;
  };

  StreamConnection(int socket, StreamConnectionOptions options);
  absl::Status Admit(const wire::PacketHeader& header, OnReply on_reply);
  absl::Status SendAll(std::string_view data, bool more);
  absl::Status SocketFailed(const char* what);
  void ReadReplies();
  absl::Status ReadSome(wire::ReplyDecoder* decoder);
  absl::Status JudgeSilence();
  absl::Status OnReplyRead(wire::DataStreamReply reply);
  void Fail(absl::Status status);

  const int socket_;
  const StreamConnectionOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;  // guarded by mutex_, as is all below
  uint64_t in_flight_bytes_ = 0;
  uint64_t answered_bytes_ = 0;
  Clock::time_point last_event_ = Clock::now();
  Clock::time_point asked_at_{};  // whether it is alive; of the reader
  absl::Status failure_;
  std::thread reader_;
};

}  // namespace sluice::client
