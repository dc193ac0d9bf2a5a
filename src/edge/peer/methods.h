// The methods of sluice.peer.Peer.
//
// Constants.
#pragma once

#include "edge/peer_wire.h"
#include "sluice/peer.pb.h"

namespace sluice::edge::peer {

namespace pb = ::sluice::peer;

inline constexpr Method<pb::HelloRequest, pb::HelloReply> kHello{"/sluice.peer.Peer/Hello"};
inline constexpr Method<pb::HaveRequest, pb::HaveReply> kHave{"/sluice.peer.Peer/Have"};
inline constexpr Method<pb::SealedRequest, pb::SealedReply> kSealed{"/sluice.peer.Peer/Sealed"};
inline constexpr Method<pb::OrderFetchRequest, pb::HaveReply> kOrderFetch{"/sluice.peer.Peer/OrderFetch"};
inline constexpr Method<pb::RecallRequest, pb::RecallReply> kRecall{"/sluice.peer.Peer/Recall"};
inline constexpr Method<pb::QueryWriteRequest, pb::QueryWriteReply> kQueryWrite{
    "/sluice.peer.Peer/QueryWrite"};
inline constexpr Method<pb::PublishRequest, pb::Outcome> kPublish{"/sluice.peer.Peer/Publish"};
inline constexpr Method<pb::RemoveRequest, pb::Outcome> kRemove{"/sluice.peer.Peer/Remove"};

}  // namespace sluice::edge::peer
