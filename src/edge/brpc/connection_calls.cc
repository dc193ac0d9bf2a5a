// Calls, ours and the peer's, and the streams that they open.
#include <errno.h>
#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "base/strings.h"
#include "edge/brpc/connection.h"

namespace sluice::edge::brpc {
namespace {

using wire::brpc::FrameEvent;
using wire::brpc::StreamState;

constexpr uint64_t kRawBytesMax = 1ull << 30;  // of a call, before it is packed

// The ids that the sender of this meta gave its ends of the call's streams.
std::vector<int64_t> IdsOf(const wire::brpc::RpcMeta& meta) {
  if (!meta.has_stream_settings()) return {};
  const auto& settings = meta.stream_settings();
  std::vector<int64_t> ids = {settings.stream_id()};
  ids.insert(ids.end(), settings.extra_stream_ids().begin(), settings.extra_stream_ids().end());
  return ids;
}
// RESOURCE_EXHAUSTED for one that the other side would end the connection for, with all that goes over it.
absl::StatusOr<Bytes> EncodeWithin(uint64_t bytes_max, wire::brpc::RpcMeta meta, const Bytes& message,
                                   const Bytes& attachment, wire::brpc::CompressType compress,
                                   bool checksum) {
  uint64_t bytes = message.size() + attachment.size();
  if (bytes <= kRawBytesMax) {
    Bytes frame = wire::brpc::EncodeCall(
        std::move(meta), message, attachment, compress,
        checksum ? wire::brpc::ChecksumType::kCrc32c : wire::brpc::ChecksumType::kNone);
    bytes = frame.size() - wire::brpc::kFrameFrontBytes;
    if (bytes <= bytes_max) return frame;
  }
  return absl::ResourceExhaustedError(
      fmt::format("of {} bytes is too large, the limit is {}", bytes, bytes_max));
}

}  // namespace

// --- Answers to calls of ours, under the lock ---

std::shared_ptr<ClientCall> Connection::CallOf(const StreamState* stream) {
  for (const auto& [correlation, call] : calls_) {
    for (const auto& end : call->streams) {
      if (end.get() == stream) return call;
    }
  }
  return nullptr;
}

void Connection::TakeOpening(wire::brpc::OpeningAnswer answer) {
  wire::brpc::FrameReader inner(options_.frames);
  inner.Feed(answer.frame);
  FrameEvent event;
  const absl::StatusOr<bool> whole = inner.Next(&event);
  if (whole.ok() && *whole && event.kind == FrameEvent::Kind::kCall && inner.idle()) {
    auto frame = wire::brpc::DecodeCall(event.meta, std::move(event.body));
    const auto found = frame.ok() ? calls_.find(frame->meta.correlation_id()) : calls_.end();
    if (found != calls_.end() && !found->second->streams.empty() &&
        found->second->streams.front().get() == answer.stream) {
      return TakeAnswer(std::shared_ptr(found->second), *std::move(frame), /*wrapped=*/true);
    }
    if (answer.stream == nullptr && frame.ok()) {
      for (const int64_t id : IdsOf(frame->meta)) streams_.SendRst(id);
      return;
    }
  }
  if (answer.from && *answer.from != wire::brpc::kNoStream) streams_.SendRst(*answer.from);
  if (const auto call = CallOf(answer.stream)) {
    EndCall(call, EPROTO, "the first message of the stream is not the answer to its call");
  }
}

void Connection::TakeAnswer(const std::shared_ptr<ClientCall>& call, wire::brpc::CallFrame frame,
                            bool wrapped) {
  const std::vector<int64_t> remote_ids = IdsOf(frame.meta);
  const auto refuse = [&](int code, const std::string& text) {
    for (const int64_t id : remote_ids) streams_.SendRst(id);
    EndCall(call, code, text);
  };
  if (const int code = frame.meta.response().error_code(); code != 0) {
    return refuse(code, frame.meta.response().error_text());
  }
  if (!call->streams.empty() && (!wrapped || remote_ids.size() != call->streams.size())) {
    return refuse(wire::brpc::kBadRequest,
                  remote_ids.empty()
                      ? "The server didn't accept the stream"
                      : fmt::format("the server answered {} streams with {}{}", call->streams.size(),
                                    remote_ids.size(), wrapped ? "" : ", and not on the stream"));
  }
  auto body = wire::brpc::OpenBody(frame, options_.body_bytes_max);
  if (!body.ok()) return refuse(wire::brpc::kBadResponse, std::string(Message(body.status())));
  for (size_t i = 0; i < call->streams.size(); ++i) {
    streams_.Connect(call->streams[i].get(),
                     {.remote_id = remote_ids[i],
                      .readable = frame.meta.stream_settings().writable(),
                      .wants_feedback = frame.meta.stream_settings().need_feedback()});
  }
  Controller::Inner& controller = call->controller->inner();
  *call->response = std::move(body->message);
  controller.response_attachment = std::move(body->attachment);
  for (const auto& [key, value] : frame.meta.user_fields()) controller.response_user_fields[key] = value;
  EndCall(call, 0, "");
}

void Connection::EndCall(const std::shared_ptr<ClientCall>& call, int code, const std::string& text) {
  if (calls_.erase(call->correlation) == 0) return;
  for (const auto& end : call->streams) {
    if (code != 0 && end->self != nullptr) streams_.Fail(end.get(), code, text);
  }
  Conclude(*call, code, text);
  // Who waits for it on a thread of its own is told first: WakeOne looks at the front.
  call->done ? finished_.push_back(call) : finished_.push_front(call);
}

bool Connection::StartCall(const std::shared_ptr<ClientCall>& call) {
  // As soon as the call is known it may end, and its controller with it.
  const Controller::Inner& controller = call->controller->inner();
  wire::brpc::RpcMeta meta;
  meta.mutable_request()->set_service_name(call->service);
  meta.mutable_request()->set_method_name(call->method);
  if (controller.log_id != 0) meta.mutable_request()->set_log_id(controller.log_id);
  for (const auto& [key, value] : controller.request_user_fields) (*meta.mutable_user_fields())[key] = value;
  const Bytes attachment = controller.request_attachment;
  const auto compress = static_cast<wire::brpc::CompressType>(controller.request_compress);
  const bool checksum = controller.request_checksum;
  {
    std::lock_guard lock(mutex_);
    if (lost()) return false;
    call->correlation = ++last_correlation_;
    calls_.emplace(call->correlation, call);
    if (const auto [code, text] = WhyNotToStart(*call); code != 0) {
      call->end_code = code;  // of its streams, which have no connection
      call->end_text = text;
      EndCall(call, code, text);
      PostUserCodeLocked();
      return true;
    }
    FillSettings(call->streams, &meta);
  }
  meta.set_correlation_id(call->correlation);
  const absl::StatusOr<Bytes> frame = EncodeWithin(options_.frames.frame_bytes_max, std::move(meta),
                                                   call->request, attachment, compress, checksum);
  {
    std::lock_guard lock(mutex_);
    if (!calls_.contains(call->correlation)) return true;  // it has failed meanwhile
    if (!frame.ok()) {
      EndCall(call, wire::brpc::kBadRequest, fmt::format("a request {}", Message(frame.status())));
      PostUserCodeLocked();
      return true;
    }
    streams_.SendFrame(*frame);
  }
  Kick();
  return true;
}

std::pair<int, std::string> Connection::WhyNotToStart(const ClientCall& call) {
  if (call.timed_out) return {wire::brpc::kTimedOut, "no connection in time"};
  if (streams_.control_bytes() > options_.streams.unsent_bytes_max) {
    return {wire::brpc::kOvercrowded, fmt::format("{} takes no more calls now", peer_)};
  }
  if (!AttachLocked(call.streams)) {
    return {wire::brpc::kLimit, fmt::format("no more streams can be opened to {}", peer_)};
  }
  return {0, ""};
}

void Connection::FailCall(const std::shared_ptr<ClientCall>& call, int code, const std::string& text) {
  std::lock_guard lock(mutex_);
  const auto found = calls_.find(call->correlation);
  if (found == calls_.end() || found->second != call) return;
  EndCall(call, code, text);
  PostUserCodeLocked();
}

// --- Requests to us ---

bool Connection::Attach(const std::vector<std::shared_ptr<StreamEnd>>& ends) {
  std::lock_guard lock(mutex_);
  return AttachLocked(ends);
}

// All or none: those that were not attached end as streams that never had a connection.
bool Connection::AttachLocked(const StreamEnds& ends) {
  if (!streams_.HasPlaceFor(ends.size())) return false;
  for (const auto& end : ends) {
    end->opens_here = handler_ == nullptr && end == ends.front();
    end->opens_others = ends.size() > 1;
    if (!streams_.Add(end.get())) return false;
    end->SetConnection(shared_from_this());
  }
  return true;
}

void Connection::FillSettings(const StreamEnds& ends, wire::brpc::RpcMeta* meta) const {
  if (ends.empty()) return;
  auto* const settings = meta->mutable_stream_settings();
  settings->set_stream_id(ends.front()->local_id);
  settings->set_need_feedback(ends.front()->window_bytes > 0);
  settings->set_writable(ends.front()->readable);
  for (size_t i = 1; i < ends.size(); ++i) settings->add_extra_stream_ids(ends[i]->local_id);
}

void Connection::SetError(int code, const std::string& text, wire::brpc::RpcMeta* meta) const {
  meta->mutable_response()->set_error_code(code);
  meta->mutable_response()->set_error_text(fmt::format("[{}][E{}]{}", self_, code, text));
}

void Connection::Answer(RequestAnswer answer) {
  int64_t from = wire::brpc::kNoStream;
  bool connects = false;
  if (!answer.ends.empty()) {
    std::lock_guard lock(mutex_);
    from = answer.ends.front()->local_id;
    // Without settings the client fails the call, and knows none of the streams.
    connects = answer.ends.front()->phase != StreamState::Phase::kEnded;
    if (connects) FillSettings(answer.ends, &answer.meta);
  }
  const auto compress = static_cast<wire::brpc::CompressType>(answer.compress);
  absl::StatusOr<Bytes> frame = EncodeWithin(options_.frames.frame_bytes_max, answer.meta, answer.message,
                                             answer.attachment, compress, answer.checksum);
  if (!frame.ok()) {
    const std::string text = fmt::format("an answer {}", Message(frame.status()));
    SetError(wire::brpc::kBadResponse, text, &answer.meta);
    frame = wire::brpc::EncodeCall(std::move(answer.meta), {}, {});
  }
  {
    std::lock_guard lock(mutex_);
    if (answer.remote_ids.empty()) {
      streams_.SendFrame(*frame);
    } else {
      streams_.SendAnswer(answer.remote_ids.front(), from, *frame);
    }
    for (size_t i = 0; i < answer.ends.size(); ++i) {
      if (!connects) {
        streams_.Fail(answer.ends[i].get(), wire::brpc::kBadRequest,
                      "the first stream of the call was closed before the call was answered");
        continue;
      }
      streams_.Connect(answer.ends[i].get(), {.remote_id = answer.remote_ids[i],
                                              .readable = answer.peer_readable,
                                              .wants_feedback = answer.peer_wants_feedback});
    }
    SetCloseTick();
  }
  Kick();
  Release(answer.ends);
}

}  // namespace sluice::edge::brpc
