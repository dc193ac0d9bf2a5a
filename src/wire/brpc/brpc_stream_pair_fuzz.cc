// Fuzzes streams: by the first byte, a pair of ends whose every choice the input makes (windows, operations,
// where the bytes are cut or lost), with the rules of stream_pair.h; or one end that gets the input as
// arbitrary bytes, between doings of its own.
//
// Checked beside the sanitizers: order, boundaries, credit, one end for each side, memory within the budgets,
// and that nothing is counted when all has ended.
#include <cstdlib>
#include <string_view>

#include "wire/brpc/stream_pair.h"

namespace sluice::wire::brpc {
namespace {

void Require(bool ok) {
  if (!ok) std::abort();
}

// Takes choices from the input; when that is used up, a fixed sequence goes on,
// so that the end is always reached.
class Choices {
 public:
  explicit Choices(std::string_view input) : input_(input) {}
  uint64_t operator()(uint64_t below) {
    if (below <= 1) return 0;
    if (at_ >= input_.size()) return (++after_ * 7) % below;
    uint64_t value = static_cast<uint8_t>(input_[at_++]);
    if (below > 256 && at_ < input_.size()) value = value << 8 | static_cast<uint8_t>(input_[at_++]);
    return value % below;
  }
  bool used_up() const { return at_ >= input_.size(); }
  std::string_view Take(size_t bytes) {
    const std::string_view taken = input_.substr(std::min(at_, input_.size()), bytes);
    at_ += taken.size();
    return taken;
  }

 private:
  std::string_view input_;
  size_t at_ = 0;
  uint64_t after_ = 0;
};

void FuzzPair(std::string_view input) {
  Choices choices(input);
  StreamPair pair(std::ref(choices));
  const bool loses = choices(2) == 1;
  for (int i = 0; i < 2000 && !choices.used_up(); ++i) {
    pair.Step();
    if (!pair.violation().empty()) break;
  }
  if (pair.violation().empty() && loses) pair.Lose();
  if (pair.violation().empty()) pair.Finish();
  if (!pair.violation().empty()) fprintf(stderr, "%s\n", pair.violation().c_str());
  Require(pair.violation().empty());
}

// One end that believes nothing of what it gets.
class Victim {
 public:
  explicit Victim(Choices* choices) : choices_(*choices) {
    const StreamsOptions options{.streams_max = 8,
                                 .segment_bytes = 16,
                                 .turn_bytes = 64,
                                 .message_bytes_max = 2000,
                                 .received_bytes_max = 1000,
                                 .unsent_bytes_max = 4000};
    streams_.emplace(options, &budget_);
  }

  void Run() {
    while (!choices_.used_up()) {
      Step(choices_(12));
      Require(streams_->unsent_bytes() < 3 << 20);
      Require(streams_->received_bytes() < 10'000);
    }
    streams_->ConnectionLost(1014, "over");
    for (auto& state : states_) {
      streams_->Release(state.get());
    }
    while (StreamState* state = streams_->NextReady()) HandOut(state);
    for (auto& state : states_) {
      Require(state->end_taken);
      streams_->Forget(state.get());
    }
    Require(streams_->received_bytes() == 0 && streams_->unsent_bytes() == 0 && streams_->size() == 0);
    streams_.reset();
    Require(budget_.received_bytes == 0 && budget_.unsent_bytes == 0);
  }

 private:
  StreamState* Any() { return states_.empty() ? nullptr : states_[choices_(states_.size())].get(); }

  void Step(uint64_t what) {
    StreamState* state = Any();
    if (what == 0) return Add();
    if (what == 1) {
      if (StreamState* ready = streams_->NextReady()) HandOut(ready);
      return;
    }
    if (what >= 6) return Receive();
    if (state == nullptr) return;
    if (what == 2) streams_->Write(state, Bytes::Copy(std::string(choices_(100), 'w')));
    if (what == 3)
      streams_->Connect(
          state, {.remote_id = static_cast<int64_t>(choices_(4)), .readable = true, .wants_feedback = true});
    if (what == 4) streams_->Release(state);
    if (what == 5) PullOrEnd(state);
  }

  void Add() {
    auto state = std::make_unique<StreamState>();
    state->window_bytes = choices_(2) * 50;
    state->opens_here = choices_(2) == 1;
    state->readable = choices_(4) != 0;
    if (streams_->Add(state.get())) states_.push_back(std::move(state));
  }

  void HandOut(StreamState* state) {
    Require(!state->end_taken);
    std::vector<Bytes> messages;
    streams_->TakeMessages(state, 1 + choices_(3), &messages);
    for (const Bytes& message : messages) {
      Require(message.size() <= 2000);
      streams_->Consumed(state, message.size());
    }
    streams_->Delivered(state);
  }

  void PullOrEnd(StreamState* state) {
    switch (choices_(6)) {
      case 0:
        return streams_->Close(state);
      case 1:
        return streams_->Fail(state, 5, "failed");
      default: {
        Output out;
        streams_->Pull(&out, choices_(200));
        size_t bytes = 0;
        for (std::string_view piece : out.pieces) bytes += piece.size();
        Require(bytes == out.bytes);
      }
    }
  }

  // A frame that is nearly right, made from the input.
  void Receive() {
    if (streams_->Congested()) {
      while (StreamState* ready = streams_->NextReady()) HandOut(ready);
      if (streams_->Congested()) return;
    }
    StreamMeta meta{.to = static_cast<int64_t>(choices_(10)) - 1,
                    .type = static_cast<FrameType>(choices_(5)),
                    .has_continuation = choices_(2) == 1};
    if (choices_(4) != 0) meta.from = static_cast<int64_t>(choices_(5)) - 1;
    if (choices_(4) != 0) meta.consumed = static_cast<int64_t>(choices_(300)) - 2;
    if (choices_(16) == 0) meta.consumed = INT64_MAX - static_cast<int64_t>(choices_(2));
    const std::string payload(choices_.Take(choices_(choices_(8) == 0 ? 1500 : 30)));
    FrameEvent event;
    event.stream = meta;
    event.frame_bytes = static_cast<uint32_t>(payload.size());
    event.too_large = choices_(32) == 0;
    const size_t cut = choices_(payload.size() + 1);
    event.first = true;
    event.last = cut == payload.size() || event.too_large;
    event.body = event.too_large ? Bytes() : Bytes::Copy(payload.substr(0, cut));
    const bool whole = event.last;
    streams_->Receive(event);
    if (whole) return;
    if (choices_(8) == 0) return PullOrEnd(states_.empty() ? &none_ : Any());
    FrameEvent rest;
    rest.stream = meta;
    rest.frame_bytes = static_cast<uint32_t>(payload.size());
    rest.last = true;
    rest.body = Bytes::Copy(payload.substr(cut));
    streams_->Receive(rest);
    while (streams_->NextUnanswered() != nullptr) {
    }
    while (streams_->NextWritable() != nullptr) {
    }
  }

  Choices& choices_;
  StreamBudget budget_;
  std::optional<Streams> streams_;
  StreamState none_{.phase = StreamState::Phase::kEnded};
  std::vector<std::unique_ptr<StreamState>> states_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0 || size > 8192) return 0;
  const std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  if (bytes[0] & 1) {
    FuzzPair(input);
  } else {
    Choices choices(input);
    Victim(&choices).Run();
  }
  return 0;
}

}  // namespace sluice::wire::brpc
