#include "edge/peer_links.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

namespace sluice::edge {

std::shared_ptr<grpc::Channel> PeerLinks::Get(const std::string& address, Use use) {
  std::lock_guard lock(mutex_);
  return *channels_.Get({address, use}, env::RealClock().MonotonicNow(), [&] {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(message_bytes_max_);
    arguments.SetMaxSendMessageSize(message_bytes_max_);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 500);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // Channels with equal arguments share a connection: a heartbeat must not wait behind entries.
    arguments.SetInt("sluice.use", use);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  });
}

}  // namespace sluice::edge
