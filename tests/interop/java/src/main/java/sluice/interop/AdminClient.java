package sluice.interop;

import java.io.IOException;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import org.apache.ratis.client.RaftClient;
import org.apache.ratis.proto.RaftProtos.RaftPeerRole;
import org.apache.ratis.protocol.GroupInfoReply;
import org.apache.ratis.protocol.GroupListReply;
import org.apache.ratis.protocol.Message;
import org.apache.ratis.protocol.RaftClientReply;
import org.apache.ratis.protocol.RaftGroup;
import org.apache.ratis.protocol.RaftPeer;
import org.apache.ratis.protocol.RaftPeerId;
import org.apache.ratis.protocol.exceptions.GroupMismatchException;
import org.apache.ratis.protocol.exceptions.StateMachineException;

/** Blocking calls, reads, refusals and the admin calls, on a counter group. */
public final class AdminClient {
  private final RaftGroup group;
  private final RaftClient client;

  private AdminClient(RaftGroup group, RaftClient client) {
    this.group = group;
    this.client = client;
  }

  public static void main(String[] args) throws IOException {
    Arguments arguments = new Arguments(args);
    Report report = new Report("java-admin");
    RaftGroup group = arguments.group();
    try (RaftClient client = Clients.open(group)) {
      AdminClient cases = new AdminClient(group, client);
      report.run("blocking-increment-and-read", cases::blockingIncrementAndRead);
      report.run("asynchronous-reads", cases::asynchronousReads);
      report.run("wrong-guess-at-the-leader", cases::wrongGuess);
      report.run("bad-command", cases::badCommand);
      report.run("unknown-group", () -> unknownGroup(arguments));
      report.run("group-list", cases::groupList);
      report.run("group-info", cases::groupInfo);
      report.exit();
    }
  }

  private int get() throws IOException {
    return Clients.value(client.io().sendReadOnly(Clients.GET));
  }

  private String blockingIncrementAndRead() throws IOException {
    int start = get();
    long index = -1;
    for (int i = 1; i <= 10; i++) {
      RaftClientReply reply = client.io().send(Clients.INCREMENT);
      int value = Clients.value(reply);
      Report.check(value == start + i, "increment %d answered %d, want %d", i, value, start + i);
      Report.check(reply.getLogIndex() > index, "log index %d follows %d", reply.getLogIndex(), index);
      index = reply.getLogIndex();
      Report.check(get() == start + i, "a read after increment %d does not see it", i);
    }
    return "counter " + get();
  }

  private String asynchronousReads() throws Exception {
    int value = get();
    int ordered = Clients.value(client.async().sendReadOnly(Clients.GET).get());
    int unordered = Clients.value(client.async().sendReadOnlyUnordered(Clients.GET).get());
    int afterWrite = Clients.value(client.async().sendReadAfterWrite(Clients.GET).get());
    Report.check(ordered == value && unordered == value && afterWrite == value, "reads of %d: %d, %d, %d", value, ordered,
        unordered, afterWrite);
    return "";
  }

  /** Each server as the guess: all but one must tell the client who leads. */
  private String wrongGuess() throws IOException {
    int start = get();
    int done = 0;
    for (RaftPeer peer : group.getPeers()) {
      try (RaftClient guessing = Clients.openGuessing(group, peer.getId())) {
        Clients.value(guessing.io().send(Clients.INCREMENT));
        done++;
      }
    }
    Report.check(get() == start + done, "%d increments took the counter from %d to %d", done, start, get());
    return "";
  }

  private String badCommand() throws IOException {
    int start = get();
    try {
      RaftClientReply reply = client.io().send(Message.valueOf("DECREMENT"));
      throw new AssertionError("a bad command was answered " + reply);
    } catch (StateMachineException expected) {
      Report.check(get() == start, "a bad command changed the counter");
      return expected.getMessage().split("\n")[0];
    }
  }

  private static String unknownGroup(Arguments arguments) throws IOException {
    try (RaftClient client = Clients.open(arguments.group(UUID.fromString("00000000-0000-0000-0000-00000000dead")))) {
      RaftClientReply reply = client.io().send(Clients.INCREMENT);
      throw new AssertionError("an unknown group was answered " + reply);
    } catch (GroupMismatchException expected) {
      return expected.getMessage().split("\n")[0];
    }
  }

  private String groupList() throws IOException {
    for (RaftPeer peer : group.getPeers()) {
      GroupListReply reply = client.getGroupManagementApi(peer.getId()).list();
      Report.check(reply.isSuccess(), "%s answered %s", peer.getId(), reply);
      Report.check(reply.getGroupIds().contains(group.getGroupId()), "%s lists %s", peer.getId(), reply.getGroupIds());
    }
    return "";
  }

  private String groupInfo() throws IOException {
    Set<RaftPeerId> leaders = new HashSet<>();
    for (RaftPeer peer : group.getPeers()) {
      GroupInfoReply reply = client.getGroupManagementApi(peer.getId()).info(group.getGroupId());
      Report.check(reply.isSuccess(), "%s answered %s", peer.getId(), reply);
      Report.check(reply.getGroup().getGroupId().equals(group.getGroupId()), "%s answered for %s", peer.getId(),
          reply.getGroup());
      Report.check(addresses(reply.getGroup()).equals(addresses(group)), "%s says the peers are %s, want %s", peer.getId(),
          addresses(reply.getGroup()), addresses(group));
      Report.check(reply.getConf().map(conf -> conf.getPeersCount()).orElse(0) == group.getPeers().size(),
          "%s says the configuration is %s", peer.getId(), reply.getConf());
      Report.check(reply.getLogInfoProto().getApplied().getIndex() > 0, "%s applied nothing", peer.getId());
      if (reply.getRoleInfoProto().getRole() == RaftPeerRole.LEADER) {
        leaders.add(peer.getId());
      }
    }
    Report.check(leaders.size() == 1, "leaders are %s", leaders);
    return "leader " + leaders.iterator().next();
  }

  private static List<String> addresses(RaftGroup group) {
    return group.getPeers().stream().map(peer -> peer.getId() + "@" + peer.getAddress()).sorted()
        .collect(Collectors.toList());
  }
}
