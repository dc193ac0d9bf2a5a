import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.apache.ratis.RaftConfigKeys;
import org.apache.ratis.conf.ConfUtils;
import org.apache.ratis.conf.RaftProperties;
import org.apache.ratis.datastream.SupportedDataStreamType;
import org.apache.ratis.examples.counter.server.CounterStateMachine;
import org.apache.ratis.examples.filestore.FileStoreCommon;
import org.apache.ratis.examples.filestore.FileStoreStateMachine;
import org.apache.ratis.grpc.GrpcConfigKeys;
import org.apache.ratis.netty.NettyConfigKeys;
import org.apache.ratis.protocol.RaftGroup;
import org.apache.ratis.protocol.RaftGroupId;
import org.apache.ratis.protocol.RaftPeer;
import org.apache.ratis.server.RaftServer;
import org.apache.ratis.server.RaftServerConfigKeys;
import org.apache.ratis.server.storage.RaftStorage.StartupOption;
import org.apache.ratis.statemachine.StateMachine;
import org.apache.ratis.util.TimeDuration;

/**
 * One server of the original, with the example machines: {@code RatisServer ID FOLDER GROUP counter|filestore PEERS},
 * where PEERS is {@code n0@127.0.0.1:PORT,…} and the data stream port follows the gRPC port. Prints {@code UP}.
 */
public final class RatisServer {
  private RatisServer() {}

  public static void main(String[] args) throws Exception {
    File folder = new File(args[1]);
    List<RaftPeer> peers = new ArrayList<>();
    for (String text : args[4].split(",")) {
      String[] parts = text.split("[@:]");
      peers.add(RaftPeer.newBuilder()
          .setId(parts[0])
          .setAddress(parts[1] + ":" + parts[2])
          .setDataStreamAddress(parts[1] + ":" + (Integer.parseInt(parts[2]) + 1))
          .build());
    }
    RaftPeer self = peers.stream().filter(peer -> peer.getId().toString().equals(args[0])).findFirst().orElseThrow();
    RaftProperties properties = properties(self, folder);
    RaftServer.newBuilder()
        .setServerId(self.getId())
        .setProperties(properties)
        .setStateMachine(machine(args[3], properties, folder))
        .setGroup(RaftGroup.valueOf(RaftGroupId.valueOf(UUID.fromString(args[2])), peers))
        .setOption(StartupOption.RECOVER)
        .build()
        .start();
    System.out.println("UP");
    Thread.currentThread().join();
  }

  private static RaftProperties properties(RaftPeer self, File folder) {
    RaftProperties properties = new RaftProperties();
    RaftServerConfigKeys.setStorageDir(properties, List.of(folder));
    // The default of 150 to 300 ms elects for half a minute on a busy machine.
    TimeDuration min = TimeDuration.valueOf(1, TimeUnit.SECONDS);
    TimeDuration max = TimeDuration.valueOf(2, TimeUnit.SECONDS);
    RaftServerConfigKeys.Rpc.setTimeoutMin(properties, min);
    RaftServerConfigKeys.Rpc.setTimeoutMax(properties, max);
    RaftServerConfigKeys.Rpc.setFirstElectionTimeoutMin(properties, min);
    RaftServerConfigKeys.Rpc.setFirstElectionTimeoutMax(properties, max);
    RaftServerConfigKeys.Read.setOption(properties, RaftServerConfigKeys.Read.Option.LINEARIZABLE);
    GrpcConfigKeys.Server.setPort(properties, port(self.getAddress()));
    NettyConfigKeys.DataStream.setPort(properties, port(self.getDataStreamAddress()));
    RaftConfigKeys.DataStream.setType(properties, SupportedDataStreamType.NETTY);
    return properties;
  }

  private static StateMachine machine(String name, RaftProperties properties, File folder) {
    if (name.equals("counter")) {
      return new CounterStateMachine();
    }
    ConfUtils.setFiles(properties::setFiles, FileStoreCommon.STATEMACHINE_DIR_KEY, List.of(new File(folder, "files")));
    return new FileStoreStateMachine(properties);
  }

  private static int port(String address) {
    return Integer.parseInt(address.split(":")[1]);
  }
}
