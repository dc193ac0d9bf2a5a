// Two ends of a connection joined by pipes of bytes, and what must hold for each stream between them: order
// and boundaries of messages, credit, one end for each side, nothing kept. For the simulator and the fuzzer.
//
//   StreamPair pair([&](uint64_t below) { return random() % below; });
//   for (int i = 0; i < 500; ++i) pair.Step();
//   pair.Finish();
//   EXPECT_EQ(pair.violation(), "");
//
// Every choice, from windows to where the bytes are cut, is made by the function. The part of the edge
// (calls, one handler for each stream) is played in a few lines. Threading: one thread.
// Failure: `violation` says the first.
#pragma once

#include <fmt/format.h>

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "wire/brpc/frame.h"
#include "wire/brpc/streams.h"

namespace sluice::wire::brpc {

class StreamPair {
 public:
  using Choose = std::function<uint64_t(uint64_t below)>;

  explicit StreamPair(Choose choose) : choose_(std::move(choose)) {
    tight_ = Choose1In(4);
    peace_ = Pick({3, 30, 300});
    for (End& end : ends_) {
      end.budget.unsent_bytes_max = Pick({500, 20'000, 1 << 30});
      end.budget.received_bytes_max = Pick({100, 20'000, 1 << 30});
      end.streams.emplace(RandomOptions(), &end.budget);
    }
  }

  void Step() {
    const size_t side = choose_(2);
    End& end = ends_[side];
    switch (choose_(20)) {
      case 0:
        return Open(side);
      case 1:
        return Serve(side);
      case 2:
        return Interfere(side);
      case 3:
        end.streams->AgeCloses();
        return end.streams->Tick();
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
        for (uint64_t i = choose_(4); i < 4; ++i) WriteSome(side);
        return;
      case 9:
      case 10:
      case 11:
        return Pull(side, 1 + choose_(Pick({1, 100, 100'000})));
      case 12:
      case 13:
      case 14:
        return Carry(side, 1 + choose_(Pick({10, 1000, 100'000})));
      case 15:
      case 16:
      case 17:
        return HandOut(side);
      case 18:
        return Wake(side);
      default:
        return Finish1(side);
    }
  }

  // The connection is cut after what has been carried; the rest of the bytes is lost.
  void Lose() {
    lost_ = true;
    for (size_t side = 0; side < 2; ++side) {
      End& end = ends_[side];
      end.pipe.clear();
      end.calls.clear();
      end.streams->ConnectionLost(1014, "lost");
      for (auto& half : end.halves) Release(half.get());
    }
  }

  // No more faults: all that was written must arrive, then all ends, and nothing is left.
  void Finish() {
    Settle();
    if (!lost_) CheckSettled();
    for (size_t side = 0; side < 2; ++side) {
      for (auto& half : ends_[side].halves) {
        if (choose_(2) == 0 || side == 1) CloseHalf(half.get());
      }
    }
    Settle();
    if (Choose1In(2)) Lose();
    // What was accepted for a caller that gave up stays open until somebody closes it.
    for (auto& half : ends_[0].halves) CloseHalf(half.get());
    Settle();
    for (size_t side = 0; side < 2; ++side) CheckEmpty(side);
  }

  const std::string& violation() const { return violation_; }
  size_t streams() const { return ends_[0].halves.size() + ends_[1].halves.size(); }
  size_t delivered() const { return delivered_; }
  size_t refused() const { return refused_; }

 private:
  struct Message {
    uint64_t size = 0;
    uint8_t start = 0;  // its bytes count up from here
  };
  // One end of one stream.
  struct Half;
  struct State : StreamState {
    Half* half = nullptr;
  };
  struct Half {
    State state;
    Half* other = nullptr;
    size_t side = 0;
    std::vector<Message> written;
    size_t received = 0;
    int ends = 0;
    bool closed_here = false;
    bool failed_here = false;
    bool was_connected = false;
    bool forgotten = false;
    uint64_t last_write_bytes = 0;
    std::vector<Bytes> in_hand;  // given by NextReady, being consumed
    bool ended_in_hand = false;
    bool waits = false;  // a write was refused, nobody has said since that there is room
  };
  struct Call {
    std::vector<Half*> asked;
    std::vector<Half*> accepted;
    bool over = false;  // for its caller
  };
  struct End {
    StreamBudget budget;
    std::optional<Streams> streams;
    FrameReader reader;
    std::string pipe;          // bytes on their way to the other end
    std::deque<size_t> calls;  // to be answered here
    std::vector<std::unique_ptr<Half>> halves;
    std::vector<Half*> busy;  // in a handler
  };

  bool Choose1In(uint64_t n) { return choose_(n) == 0; }
  uint64_t Pick(std::vector<uint64_t> values) { return values[choose_(values.size())]; }
  void Violated(std::string what) {
    if (violation_.empty()) violation_ = std::move(what);
  }

  StreamsOptions RandomOptions() {
    StreamsOptions options;
    options.first_id = static_cast<int64_t>(Pick({0, 3, 1ull << 40})) - 2;
    options.segment_bytes = static_cast<uint32_t>(Pick({1, 8, 100, 64 << 10}));
    options.turn_bytes = static_cast<uint32_t>(Pick({1, 50, 1000, 64 << 10}));
    options.copy_bytes_max = static_cast<uint32_t>(Pick({0, 10, 4 << 10}));
    options.unsent_bytes_max = Pick({1, 2000, 64 << 20});
    options.received_bytes_max = tight_ ? Pick({1, 100, 5000}) : 1 << 20;
    options.unconsumed_bytes_max = Pick({0, 1000, 32 << 20});
    options.feedback_bytes = static_cast<uint32_t>(Pick({1, 100, 256 << 10}));
    options.holds_early_close = Choose1In(2);
    return options;
  }

  Half* NewHalf(size_t side) {
    End& end = ends_[side];
    end.halves.push_back(std::make_unique<Half>());
    Half* half = end.halves.back().get();
    half->side = side;
    half->state.half = half;
    half->state.window_bytes = Pick({0, 1, 10, 300, 10'000, 2 << 20});
    half->state.min_window_bytes = Pick({0, 1, 100, 1 << 20});
    half->state.readable = choose_(8) != 0;
    return half;
  }

  // --- Calls, as the edge makes and serves them ---

  void Open(size_t side) {
    if (lost_ || ends_[side].streams->size() > 6 || streams() > 200) return;
    Call call;
    for (uint64_t i = 0, n = 1 + choose_(3); i < n; ++i) {
      Half* half = NewHalf(side);
      half->state.opens_here = i == 0;
      half->state.opens_others = n > 1;
      half->state.readable = call.asked.empty() ? half->state.readable : call.asked[0]->state.readable;
      half->state.window_bytes =
          call.asked.empty() ? half->state.window_bytes : call.asked[0]->state.window_bytes;
      if (!ends_[side].streams->Add(&half->state)) return Violated("too many streams");
      call.asked.push_back(half);
    }
    const std::string meta = std::to_string(calls_.size());
    std::string frame = "PRPC";
    for (size_t i = 0; i < 2; ++i) frame += {0, 0, 0, static_cast<char>(meta.size())};
    ends_[side].streams->SendFrame(Bytes::Copy(frame + meta));
    calls_.push_back(std::move(call));
  }

  // Accepts a call, or answers it.
  void Serve(size_t side) {
    End& end = ends_[side];
    if (end.calls.empty()) return;
    Call& call = calls_[end.calls.front()];
    if (call.accepted.empty() && choose_(6) != 0) {
      Half* first = nullptr;
      for (Half* asked : call.asked) {
        Half* half = NewHalf(side);
        if (first == nullptr) first = half;
        half->state.readable = first->state.readable;
        half->state.window_bytes = first->state.window_bytes;
        half->other = asked;
        asked->other = half;
        end.streams->Add(&half->state);
        call.accepted.push_back(half);
      }
      return;
    }
    const bool refuse = call.accepted.empty();
    const int64_t from = refuse ? kNoStream : call.accepted[0]->state.local_id;
    end.streams->SendAnswer(call.asked[0]->state.local_id, from,
                            Bytes::Copy(fmt::format("{}{}", refuse ? "-" : "+", end.calls.front())));
    end.calls.pop_front();
    for (size_t i = 0; i < call.accepted.size(); ++i) {
      Connect(call.accepted[i], *call.asked[i]);
      Release(call.accepted[i]);
    }
  }

  void Connect(Half* half, const Half& peer) {
    if (half->forgotten) return;
    half->was_connected |= half->state.phase == StreamState::Phase::kOpening;
    ends_[half->side].streams->Connect(&half->state, {.remote_id = peer.state.local_id,
                                                      .readable = peer.state.readable,
                                                      .wants_feedback = peer.state.window_bytes > 0});
  }

  void Release(Half* half) {
    if (!half->forgotten) ends_[half->side].streams->Release(&half->state);
  }

  void Answered(const OpeningAnswer& answer) {
    const std::string text = answer.frame.ToString();
    const size_t number = text.size() < 2 ? calls_.size() : std::stoul(text.substr(1));
    if (number >= calls_.size() ||
        (answer.stream != nullptr && calls_[number].asked[0] != HalfOf(answer.stream))) {
      return Violated("an answer that nobody gave: " + text);
    }
    Call& call = calls_[number];
    if (answer.stream == nullptr) {
      if (!call.over) return Violated("an answer that is not late");
      Streams& streams = *ends_[call.asked[0]->side].streams;
      for (Half* half : text[0] == '+' ? call.accepted : std::vector<Half*>()) {
        streams.SendRst(half->state.local_id);
      }
      return;
    }
    if (std::exchange(call.over, true)) return;
    if (text[0] == '-') return FailCall(&call, 1003);
    for (size_t i = 0; i < call.asked.size(); ++i) Connect(call.asked[i], *call.accepted[i]);
    for (Half* half : call.asked) Release(half);
  }

  void FailCall(Call* call, int code) {
    call->over = true;
    for (Half* half : call->asked) {
      if (!half->forgotten) ends_[half->side].streams->Fail(&half->state, code, "the call failed");
      half->failed_here = true;
      Release(half);
    }
  }

  void FailCallOf(Half* half) {
    for (Call& call : calls_) {
      if (std::find(call.asked.begin(), call.asked.end(), half) != call.asked.end() && !call.over) {
        return FailCall(&call, 1003);
      }
    }
  }

  static Half* HalfOf(StreamState* state) { return static_cast<State*>(state)->half; }

  // --- Doings of the application ---

  Half* AnyHalf(size_t side) {
    End& end = ends_[side];
    if (end.halves.empty()) return nullptr;
    // Mostly the latest: most of the others have ended.
    const size_t size = end.halves.size();
    const size_t among = Choose1In(4) ? size : std::min<size_t>(size, 5);
    Half* half = end.halves[size - 1 - choose_(among)].get();
    return half->forgotten ? nullptr : half;
  }

  void WriteSome(size_t side) {
    Half* half = AnyHalf(side);
    if (half == nullptr) return;
    const Message message{.size = choose_(Pick({1, 2, 20, 200, 6000})),
                          .start = static_cast<uint8_t>(choose_(256))};
    std::string payload(message.size, '\0');
    for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(message.start + i);
    const uint64_t produced = half->state.produced_bytes;
    const Streams::Written written =
        ends_[side].streams->Write(&half->state, Bytes::Take(std::move(payload)));
    if (written != Streams::Written::kWritten) {
      ++refused_;
      half->waits |= written == Streams::Written::kFull;
      if (half->state.produced_bytes != produced) Violated("a refused write was counted");
      return;
    }
    half->written.push_back(message);
    half->last_write_bytes = message.size;
    const uint64_t in_flight = half->state.produced_bytes - half->state.remote_consumed_bytes;
    if (half->state.produced_bytes < half->state.remote_consumed_bytes ||
        (half->state.window_bytes > 0 && in_flight > half->state.window_bytes - 1 + message.size)) {
      Violated(fmt::format("stream {} has {} bytes in flight", half->state.local_id, in_flight));
    }
  }

  void Interfere(size_t side) {
    Half* half = AnyHalf(side);
    if (half == nullptr || choose_(peace_) != 0) return;
    if (Choose1In(2)) return CloseHalf(half);
    half->failed_here = true;
    ends_[side].streams->Fail(&half->state, 5, "failed");
    AfterOwnEnd(half);
  }

  void CloseHalf(Half* half) {
    if (half->forgotten) return;
    if (half->state.phase != StreamState::Phase::kEnded) half->closed_here = true;
    ends_[half->side].streams->Close(&half->state);
    AfterOwnEnd(half);
  }

  // Who gives up the stream that the answer comes on gives up the call.
  void AfterOwnEnd(Half* half) {
    if (half->state.opens_here && !half->state.answered) FailCallOf(half);
  }

  void HandOut(size_t side) {
    End& end = ends_[side];
    StreamState* state = end.streams->NextReady();
    if (state == nullptr) return;
    Half* half = HalfOf(state);
    if (half->ends > 0 || half->forgotten) Violated("something after the end");
    if (!half->in_hand.empty()) Violated("two handlers at once");
    half->ended_in_hand = end.streams->TakeMessages(state, Pick({1, 3, 128}), &half->in_hand);
    for (const Bytes& message : half->in_hand) Check(half, message);
    end.busy.push_back(half);
  }

  void Check(Half* half, const Bytes& bytes) {
    ++delivered_;
    if (half->other == nullptr || half->received >= half->other->written.size()) {
      return Violated("a message that nobody wrote");
    }
    const Message& message = half->other->written[half->received++];
    const std::string text = bytes.ToString();
    bool right = text.size() == message.size;
    for (size_t i = 0; right && i < text.size(); ++i) right = text[i] == static_cast<char>(message.start + i);
    if (!right)
      Violated(fmt::format("message {} of {} is another", half->received - 1, half->state.local_id));
    if (!half->state.readable) Violated("a message for nobody");
  }

  // A handler goes on: some more is consumed, or it returns.
  void Finish1(size_t side) {
    End& end = ends_[side];
    if (end.busy.empty()) return;
    const size_t at = choose_(end.busy.size());
    Half* half = end.busy[at];
    while (!half->in_hand.empty()) {
      end.streams->Consumed(&half->state, half->in_hand.back().size());
      half->in_hand.pop_back();
      if (Choose1In(4)) return;
    }
    end.busy.erase(end.busy.begin() + static_cast<ptrdiff_t>(at));
    end.streams->Delivered(&half->state);
    if (!half->ended_in_hand) return;
    ++half->ends;
    CheckEnd(*half);
    half->forgotten = true;
    end.streams->Forget(&half->state);
  }

  void CheckEnd(const Half& half) {
    const int code = half.state.end_code;
    const Half* other = half.other;
    const bool own = half.closed_here || half.failed_here;
    if (code == EPROTO || code == EMSGSIZE || (code == ENOBUFS && !tight_)) {
      Violated(fmt::format("stream {} ended with {} {}", half.state.local_id, code, half.state.end_text));
    }
    if (own || lost_ || other == nullptr || !half.was_connected || !other->was_connected || tight_) return;
    if (code == ECONNRESET && !other->failed_here) Violated("RST of a stream that was closed");
    if (code != 0 || !half.state.readable) return;
    if (!other->closed_here) return Violated("CLOSE of a stream that was not closed");
    if (half.received != other->written.size()) {
      Violated(fmt::format("stream {}: {} of {} messages came before CLOSE", half.state.local_id,
                           half.received, other->written.size()));
    }
  }

  void Wake(size_t side) {
    while (StreamState* state = ends_[side].streams->NextWritable()) {
      HalfOf(state)->waits = false;
      if (state->phase == StreamState::Phase::kEnded) continue;
      if (!ends_[side].streams->HasRoom(state)) Violated("woken without room");
    }
  }

  // --- The connection ---

  void Pull(size_t side, size_t bytes_max) {
    End& end = ends_[side];
    Output out;
    const bool had = end.streams->HasOutput();
    if (end.streams->Pull(&out, bytes_max) != had) Violated("HasOutput is not what Pull gives");
    size_t bytes = 0;
    for (std::string_view piece : out.pieces) {
      bytes += piece.size();
      end.pipe += piece;
    }
    if (bytes != out.bytes) Violated("pieces do not add up");
  }

  // Bytes from `side` reach the other end.
  void Carry(size_t side, size_t bytes) {
    std::string& pipe = ends_[side].pipe;
    End& to = ends_[1 - side];
    if (pipe.empty() || to.streams->Congested()) return;
    auto slab = std::make_shared<std::string>(pipe.substr(0, bytes));
    pipe.erase(0, slab->size());
    to.reader.Feed(*slab, slab);
    FrameEvent event;
    while (true) {
      const absl::StatusOr<bool> more = to.reader.Next(&event);
      if (!more.ok()) return Violated(more.status().ToString());
      if (!*more) break;
      if (event.kind == FrameEvent::Kind::kBadStream) return Violated("a bad frame");
      if (event.kind == FrameEvent::Kind::kCall) {
        to.calls.push_back(std::stoul(event.meta));
        continue;
      }
      const std::optional<OpeningAnswer> answer = to.streams->Receive(event);
      if (answer) Answered(*answer);
    }
    CallUnanswered(1 - side);
  }

  void CallUnanswered(size_t side) {
    while (StreamState* state = ends_[side].streams->NextUnanswered()) {
      Half* half = HalfOf(state);
      FailCallOf(half);
      Release(half);
    }
  }

  // --- The end ---

  bool Idle() const {
    for (const End& end : ends_) {
      if (!end.pipe.empty() || end.streams->HasOutput() || end.streams->HoldsCloses() || !end.busy.empty() ||
          !end.calls.empty()) {
        return false;
      }
    }
    return true;
  }

  void Settle() {
    int quiet = 0;
    for (int round = 0; quiet < 3; ++round) {
      if (round > 5000) return Violated("it does not come to rest");
      const size_t before = delivered_;
      for (size_t side = 0; side < 2; ++side) {
        End& end = ends_[side];
        end.streams->Tick();
        end.streams->AgeCloses();
        Pull(side, 1 << 20);
        Carry(side, 1 << 20);
        CallUnanswered(side);
        for (size_t i = 0, n = end.halves.size() + 1; i < n; ++i) HandOut(side);
        for (size_t i = 0; i < 1000 && !end.busy.empty(); ++i) Finish1(side);
        Wake(side);
        for (size_t i = 0; i < 10; ++i) Serve(side);
      }
      quiet = Idle() && before == delivered_ ? quiet + 1 : 0;
    }
  }

  void CheckSettled() {
    for (End& end : ends_) {
      for (auto& half : end.halves) {
        if (half->forgotten) continue;
        if (half->state.phase == StreamState::Phase::kEnded && half->waits) Violated("not woken by the end");
        if (half->state.phase != StreamState::Phase::kOpen) continue;
        const Half* other = half->other;
        if (other->forgotten || other->state.phase != StreamState::Phase::kOpen) continue;
        if (half->state.readable && half->received != other->written.size())
          Violated("a message did not arrive");
        if (half->waits) Violated("a writer waits though there is room");
        if (!end.streams->HasRoom(&half->state)) Violated("no room though all was consumed");
      }
    }
  }

  void CheckEmpty(size_t side) {
    End& end = ends_[side];
    for (auto& half : end.halves) {
      if (half->ends != 1)
        Violated(fmt::format("stream {} ended {} times", half->state.local_id, half->ends));
    }
    if (end.streams->size() != 0) Violated("streams are left");
    if (end.streams->received_bytes() != 0) Violated("received bytes are left");
    if (end.streams->unsent_bytes() != 0) Violated("unsent bytes are left");
    if (end.budget.received_bytes != 0 || end.budget.unsent_bytes != 0)
      Violated("the process counts what is gone");
  }

  const Choose choose_;
  bool tight_ = false;  // budgets are smaller than messages: streams may fail for it
  bool lost_ = false;
  uint64_t peace_ = 1;  // how seldom the application ends a stream
  End ends_[2];
  std::vector<Call> calls_;
  std::string violation_;
  size_t delivered_ = 0;
  size_t refused_ = 0;
};

}  // namespace sluice::wire::brpc
