package sluice.interop;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.concurrent.TimeUnit;
import org.apache.ratis.RaftConfigKeys;
import org.apache.ratis.client.RaftClient;
import org.apache.ratis.client.RaftClientConfigKeys;
import org.apache.ratis.conf.RaftProperties;
import org.apache.ratis.datastream.SupportedDataStreamType;
import org.apache.ratis.protocol.Message;
import org.apache.ratis.protocol.RaftClientReply;
import org.apache.ratis.protocol.RaftGroup;
import org.apache.ratis.protocol.RaftPeer;
import org.apache.ratis.protocol.RaftPeerId;
import org.apache.ratis.retry.ExponentialBackoffRetry;
import org.apache.ratis.thirdparty.com.google.protobuf.ByteString;
import org.apache.ratis.util.TimeDuration;

/** Unmodified Ratis clients, with the settings that an ordinary application uses. */
final class Clients {
  static final Message INCREMENT = Message.valueOf("INCREMENT");
  static final Message GET = Message.valueOf("GET");
  static final int OUTSTANDING_MAX = 100;

  private Clients() {}

  static RaftClient open(RaftGroup group) {
    return builder(group).build();
  }

  /** The first guess at the leader is this server, right or wrong. */
  static RaftClient openGuessing(RaftGroup group, RaftPeerId leader) {
    return builder(group).setLeaderId(leader).build();
  }

  static RaftClient openStreaming(RaftGroup group, RaftPeer primary) {
    return builder(group).setPrimaryDataStreamServer(primary).build();
  }

  private static RaftClient.Builder builder(RaftGroup group) {
    RaftProperties properties = new RaftProperties();
    RaftConfigKeys.DataStream.setType(properties, SupportedDataStreamType.NETTY);
    RaftClientConfigKeys.Async.setOutstandingRequestsMax(properties, OUTSTANDING_MAX);
    return RaftClient.newBuilder()
        .setProperties(properties)
        .setRaftGroup(group)
        .setRetryPolicy(
            ExponentialBackoffRetry.newBuilder()
                .setBaseSleepTime(TimeDuration.valueOf(50, TimeUnit.MILLISECONDS))
                .setMaxSleepTime(TimeDuration.valueOf(1, TimeUnit.SECONDS))
                .setMaxAttempts(90) // about a minute and a half, then the case fails instead of hanging
                .build());
  }

  /** The counter's answers are four bytes, big endian. */
  static int value(RaftClientReply reply) throws IOException {
    if (!reply.isSuccess()) {
      throw new IOException("the reply is a failure: " + reply);
    }
    ByteString content = reply.getMessage().getContent();
    if (content.size() != Integer.BYTES) {
      throw new IOException("expected 4 bytes, got " + content.size() + " in " + reply);
    }
    return ByteBuffer.wrap(content.toByteArray()).getInt();
  }
}
