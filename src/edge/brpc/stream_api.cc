// The functions of sluice/stream.h.
#include "sluice/stream.h"

#include <errno.h>

#include <algorithm>

#include "absl/synchronization/notification.h"
#include "edge/brpc/connection.h"
#include "edge/brpc/controller.h"
#include "edge/brpc/crews.h"
#include "edge/brpc/server_call.h"
#include "edge/brpc/stream_end.h"

namespace sluice {
namespace {

using edge::brpc::FindStream;
using edge::brpc::ForgetStreamId;
using edge::brpc::StreamEnd;

constexpr int kStreamsPerCallMax = 1024;

// How long until a time of the wall clock; negative: for ever.
std::chrono::nanoseconds Until(const timespec* due_time) {
  if (due_time == nullptr) return std::chrono::nanoseconds(-1);
  constexpr time_t kForEverS = 10LL * 365 * 24 * 3600;  // and nothing overflows
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (due_time->tv_sec - now.tv_sec > kForEverS) return std::chrono::nanoseconds(-1);
  const auto left = std::chrono::seconds(due_time->tv_sec - now.tv_sec) +
                    std::chrono::nanoseconds(due_time->tv_nsec - now.tv_nsec);
  return std::max<std::chrono::nanoseconds>(left, std::chrono::nanoseconds(0));
}

}  // namespace

bool Controller::has_remote_stream() const {
  return inner_->server_call != nullptr && !inner_->server_call->answer.remote_ids.empty();
}

int StreamCreate(StreamId* id, Controller& controller, const StreamOptions* options) {
  StreamIds ids;
  if (StreamCreate(ids, 1, controller, options) != 0) return -1;
  *id = ids.front();
  return 0;
}

int StreamCreate(StreamIds& ids, int count, Controller& controller, const StreamOptions* options) {
  auto& streams = controller.inner().streams;
  if (count < 1 || count > kStreamsPerCallMax || !streams.empty()) return -1;
  ids.clear();
  for (int i = 0; i < count; ++i) {
    streams.push_back(StreamEnd::New(options == nullptr ? StreamOptions() : *options));
    ids.push_back(streams.back()->id);
  }
  return 0;
}

int StreamAccept(StreamId* id, Controller& controller, const StreamOptions* options) {
  edge::brpc::ServerCall* const call = controller.inner().server_call;
  if (call == nullptr || call->answer.remote_ids.size() > 1) return -1;
  StreamIds ids;
  if (StreamAccept(ids, controller, options) != 0) return -1;
  *id = ids.front();
  return 0;
}

int StreamAccept(StreamIds& ids, Controller& controller, const StreamOptions* options) {
  edge::brpc::ServerCall* const call = controller.inner().server_call;
  if (call == nullptr || call->answer.remote_ids.empty() || call->accepted) return -1;
  call->accepted = true;
  auto& ends = call->answer.ends;
  for (size_t i = 0; i < call->answer.remote_ids.size(); ++i) {
    ends.push_back(StreamEnd::New(options == nullptr ? StreamOptions() : *options));
  }
  if (!call->connection->Attach(ends)) {
    for (const auto& end : ends) ForgetStreamId(end->id);  // never were: nobody is told
    ends.clear();
    return -1;
  }
  ids.clear();
  for (const auto& end : ends) ids.push_back(end->id);
  return 0;
}

int StreamWrite(StreamId id, const Bytes& message) {
  const auto end = FindStream(id);
  return end == nullptr ? EINVAL : end->Write(message);
}

int StreamWait(StreamId id, const timespec* due_time) {
  const auto end = FindStream(id);
  if (end == nullptr) return EINVAL;
  struct Wait {
    absl::Notification over;
    int code = 0;
  };
  const auto wait = std::make_shared<Wait>();
  const uint64_t number = end->WaitForRoom([wait](int code) {
    wait->code = code;
    wait->over.Notify();
  });
  if (wait->over.HasBeenNotified()) return wait->code;
  const env::Crew::Wait waiting;
  const std::chrono::nanoseconds left = Until(due_time);
  if (left.count() < 0) {
    wait->over.WaitForNotification();
  } else if (!wait->over.WaitForNotificationWithTimeout(absl::FromChrono(left))) {
    end->StopWaiting(number, ETIMEDOUT);
    wait->over.WaitForNotification();  // by us, or by who was quicker
  }
  return wait->code;
}

void StreamWait(StreamId id, const timespec* due_time, void (*on_writable)(StreamId, void*, int), void* arg) {
  const auto end = FindStream(id);
  env::Crew* const crew = edge::brpc::ClientCrew();
  const auto tell = [=](int code) { crew->PostForeign([=] { on_writable(id, arg, code); }); };
  if (end == nullptr) return tell(EINVAL);
  const auto timer = std::make_shared<std::atomic<env::TimerId>>(env::TimerId::kNone);
  const uint64_t number = end->WaitForRoom([tell, timer, crew](int code) {
    crew->Cancel(timer->load());
    tell(code);
  });
  const std::chrono::nanoseconds left = Until(due_time);
  if (number == 0 || left.count() < 0) return;
  timer->store(crew->PostAfter(std::chrono::duration_cast<env::Duration>(left),
                               [end, number] { end->StopWaiting(number, ETIMEDOUT); }));
}

int StreamClose(StreamId id) {
  if (const auto end = FindStream(id)) end->Close();
  return 0;
}

std::vector<StreamInfo> ListStreams(size_t most) {
  auto all = edge::brpc::AllStreams();
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  if (all.size() > most) all.resize(most);
  std::vector<StreamInfo> infos;
  for (const auto& end : all) infos.push_back(end->Info());
  return infos;
}

}  // namespace sluice
