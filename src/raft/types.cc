#include "raft/types.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

namespace sluice::raft {
namespace {

constexpr uint8_t kConfigurationVersion = 1;
constexpr uint64_t kPeersMax = 1024;  // of one list
constexpr uint64_t kTextMax = 4096;   // an id or an address

void PutVarint(std::string* out, uint64_t value) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void PutText(std::string* out, const std::string& text) {
  PutVarint(out, text.size());
  out->append(text);
}

void PutPeers(std::string* out, const std::vector<Peer>& peers) {
  PutVarint(out, peers.size());
  for (const Peer& peer : peers) {
    PutText(out, peer.id.value);
    PutText(out, peer.address);
    PutText(out, peer.data_stream_address);
    PutText(out, peer.client_address);
    PutText(out, peer.admin_address);
    PutVarint(out, peer.priority);
  }
}

// Takes values off the front of `rest`; after the first that does not fit, every further one fails.
struct Reader {
  std::string_view rest;
  bool ok = true;

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest.empty()) break;
      const auto byte = static_cast<uint8_t>(rest.front());
      rest.remove_prefix(1);
      // The tenth byte has one bit left, and a last byte of zero is never written (one encoding per value).
      if ((shift == 63 && byte > 1) || (shift > 0 && byte == 0)) break;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    ok = false;
    return 0;
  }

  std::string Text() {
    const uint64_t size = Varint();
    if (!ok || size > kTextMax || size > rest.size()) {
      ok = false;
      return {};
    }
    std::string text(rest.substr(0, size));
    rest.remove_prefix(size);
    return text;
  }

  std::vector<Peer> Peers() {
    std::vector<Peer> peers;
    const uint64_t count = Varint();
    if (count > kPeersMax) ok = false;
    for (uint64_t i = 0; ok && i < count; ++i) {
      Peer peer;
      peer.id.value = Text();
      peer.address = Text();
      peer.data_stream_address = Text();
      peer.client_address = Text();
      peer.admin_address = Text();
      const uint64_t priority = Varint();
      if (priority > UINT32_MAX || peer.id.empty()) ok = false;
      peer.priority = static_cast<uint32_t>(priority);
      peers.push_back(std::move(peer));
    }
    return peers;
  }
};

bool HasDuplicates(const std::vector<Peer>& a, const std::vector<Peer>& b) {
  std::set<PeerId> seen;
  for (const std::vector<Peer>* peers : {&a, &b}) {
    for (const Peer& peer : *peers) {
      if (!seen.insert(peer.id).second) return true;
    }
  }
  return false;
}

const Peer* FindIn(const std::vector<Peer>& peers, const PeerId& id) {
  auto it = std::find_if(peers.begin(), peers.end(), [&](const Peer& peer) { return peer.id == id; });
  return it == peers.end() ? nullptr : &*it;
}

}  // namespace

bool Configuration::IsVoter(const PeerId& id) const {
  return FindIn(voters, id) != nullptr || FindIn(old_voters, id) != nullptr;
}

const Peer* Configuration::Find(const PeerId& id) const {
  for (const std::vector<Peer>* peers : {&voters, &learners, &old_voters, &old_learners}) {
    if (const Peer* peer = FindIn(*peers, id)) return peer;
  }
  return nullptr;
}

std::vector<Peer> Configuration::AllPeers() const {
  std::map<PeerId, const Peer*> by_id;
  for (const std::vector<Peer>* peers : {&voters, &learners, &old_voters, &old_learners}) {
    for (const Peer& peer : *peers) by_id.emplace(peer.id, &peer);
  }
  std::vector<Peer> all;
  for (const auto& [id, peer] : by_id) all.push_back(*peer);
  return all;
}

absl::Status CheckConfiguration(const Configuration& configuration) {
  for (const std::vector<Peer>* peers : {&configuration.voters, &configuration.old_voters,
                                         &configuration.learners, &configuration.old_learners}) {
    if (peers->size() > kPeersMax)
      return absl::InvalidArgumentError("configuration: more than 1024 peers in a list");
    for (const Peer& peer : *peers) {
      if (peer.id.empty()) return absl::InvalidArgumentError("configuration: a peer without an id");
      for (const std::string* text : {&peer.id.value, &peer.address, &peer.data_stream_address,
                                      &peer.client_address, &peer.admin_address}) {
        if (text->size() > kTextMax) {
          return absl::InvalidArgumentError("configuration: an id or address of more than 4096 bytes");
        }
      }
    }
  }
  if (HasDuplicates(configuration.voters, configuration.learners) ||
      HasDuplicates(configuration.old_voters, configuration.old_learners)) {
    return absl::InvalidArgumentError("configuration: a peer is listed twice");
  }
  if (!configuration.joint() && !configuration.old_learners.empty()) {
    return absl::InvalidArgumentError("configuration: old learners without old voters");
  }
  return absl::OkStatus();
}

Bytes EncodeConfiguration(const Configuration& configuration) {
  std::string out(1, static_cast<char>(kConfigurationVersion));
  PutPeers(&out, configuration.voters);
  PutPeers(&out, configuration.old_voters);
  PutPeers(&out, configuration.learners);
  PutPeers(&out, configuration.old_learners);
  return Bytes::Take(std::move(out));
}

absl::StatusOr<Configuration> DecodeConfiguration(const Bytes& payload) {
  Bytes flat = payload;
  Reader reader{flat.Flatten()};
  if (reader.rest.empty()) return absl::InvalidArgumentError("configuration: no bytes");
  const auto version = static_cast<uint8_t>(reader.rest.front());
  if (version != kConfigurationVersion) {
    return absl::InvalidArgumentError(fmt::format("configuration: version {}, expected 1", version));
  }
  reader.rest.remove_prefix(1);
  Configuration configuration;
  configuration.voters = reader.Peers();
  configuration.old_voters = reader.Peers();
  configuration.learners = reader.Peers();
  configuration.old_learners = reader.Peers();
  if (!reader.ok || !reader.rest.empty()) {
    return absl::InvalidArgumentError(fmt::format("configuration: malformed, {} bytes", payload.size()));
  }
  RETURN_IF_ERROR(CheckConfiguration(configuration));
  return configuration;
}

}  // namespace sluice::raft
