// Fuzzes both DataStream decoders. The first byte chooses how the rest is cut and which decoder gets it.
//
// Checked beside the sanitizers: the result does not depend on the cuts, what is decoded encodes to something
// that decodes to the same, and the hand-written header parser accepts what protobuf accepts.
#include <cstdlib>
#include <vector>

#include "wire/datastream.h"

namespace sluice::wire {
namespace {

void Require(bool ok) {
  if (!ok) std::abort();
}

struct Outcome {
  std::vector<std::string> encoded;  // every packet that came out whole
  absl::StatusCode code = absl::StatusCode::kOk;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

DataStreamLimits SmallLimits() {
  return {.frame_bytes_max = 4096,
          .stream_header_bytes_max = 1024,
          .packet_header_bytes_max = 512,
          .piece_bytes = 64};
}

Outcome DecodeRequests(std::string_view input, size_t step) {
  RequestDecoder decoder(SmallLimits());
  Outcome outcome;
  Bytes data;
  for (size_t at = 0; at < input.size(); at += step) {
    decoder.Feed(Bytes::Copy(input.substr(at, step)));
    RequestEvent event;
    while (true) {
      absl::StatusOr<bool> more = decoder.Next(&event);
      if (!more.ok()) {
        outcome.code = more.status().code();
        return outcome;
      }
      if (!*more) break;
      Require(event.data.size() <= (event.kind == RequestEvent::Kind::kStreamHeader ? 1024u : 64u));
      if (event.kind == RequestEvent::Kind::kPacket) continue;
      Require(event.offset == event.header.offset + data.size());
      data.Append(event.data);
      if (!event.last) continue;
      Require(data.size() == event.header.data_length);
      outcome.encoded.push_back(EncodeRequest(event.header, data).ToString());
      data = Bytes();
    }
  }
  return outcome;
}

Outcome DecodeReplies(std::string_view input, size_t step) {
  ReplyDecoder decoder(4096);
  Outcome outcome;
  for (size_t at = 0; at < input.size(); at += step) {
    decoder.Feed(Bytes::Copy(input.substr(at, step)));
    DataStreamReply reply;
    while (true) {
      absl::StatusOr<bool> more = decoder.Next(&reply);
      if (!more.ok()) {
        outcome.code = more.status().code();
        return outcome;
      }
      if (!*more) break;
      outcome.encoded.push_back(EncodeReply(reply).ToString());
      (void)DecodeCommitInfos(reply.commit_infos);
    }
  }
  return outcome;
}

void CompareWithProtobuf(std::string_view input) {
  ratis::common::DataStreamRequestHeaderProto proto;
  const bool parsed = proto.ParseFromArray(input.data(), static_cast<int>(input.size()));
  const auto& packet = proto.packet_header();  // only now: another object before the parse
  const bool valid = parsed && packet.client_id().size() == 16 && packet.type() >= 0 && packet.type() <= 1;
  PacketHeader header;
  Require(ParseRequestHeader(input, &header).ok() == valid);
  if (!valid) return;
  Require(header.stream.value == packet.stream_id() && header.offset == packet.stream_offset() &&
          header.data_length == packet.data_length());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0 || size > 16'384) return 0;
  const std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const size_t step = 1 + (bytes[0] >> 1);
  const auto decode = (bytes[0] & 1) ? DecodeReplies : DecodeRequests;
  const Outcome outcome = decode(input, step);
  Require(outcome == decode(input, size));
  std::string again;
  for (const std::string& packet : outcome.encoded) again += packet;
  if (!again.empty()) Require(decode(again, 7).encoded == outcome.encoded);
  CompareWithProtobuf(input);
  return 0;
}

}  // namespace sluice::wire
