// A ByteTransport whose peers never answer: tests override what theirs do answer.
#pragma once

#include <memory>
#include <string>

#include "node/transports.h"

namespace sluice::node {

class SilentBytes : public ByteTransport {
 public:
  std::unique_ptr<ByteSink> Open(env::Executor*, const raft::Peer&, const StreamHeader&,
                                 ByteSink::Opened) override {
    return nullptr;
  }
  void Have(const raft::Peer&, const GroupId&, const UploadId&, env::Executor*, Done<HaveReply>) override {}
  void TellSealed(const raft::Peer&, const GroupId&, const SealedUpload&, env::Executor*,
                  absl::AnyInvocable<void(absl::Status)>) override {}
  void OrderFetch(const raft::Peer&, const GroupId&, const SealedUpload&, env::Executor*,
                  Done<HaveReply>) override {}
  void QueryWrite(const raft::Peer&, const GroupId&, const WriteKey&, env::Executor*,
                  Done<WriteStatus>) override {}
  void Recall(const raft::Peer&, const GroupId&, const raft::RecallRequest&, env::Executor*,
              Done<raft::RecallReply>) override {}
  void Publish(const raft::Peer&, const PublishRequest&, env::Executor*,
               absl::AnyInvocable<void(ClientReply)>) override {}
  void Remove(const raft::Peer&, const RemoveRequest&, env::Executor*,
              absl::AnyInvocable<void(ClientReply)>) override {}
  void Fetch(const raft::Peer&, const FetchWanted&, uint64_t, uint64_t, env::Executor*,
             Done<Bytes>) override {}
};

}  // namespace sluice::node
