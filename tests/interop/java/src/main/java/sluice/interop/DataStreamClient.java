package sluice.interop;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.ratis.client.RaftClient;
import org.apache.ratis.client.api.DataStreamOutput;
import org.apache.ratis.datastream.impl.DataStreamReplyByteBuffer;
import org.apache.ratis.io.StandardWriteOption;
import org.apache.ratis.proto.RaftProtos.RaftClientReplyProto;
import org.apache.ratis.protocol.DataStreamReply;
import org.apache.ratis.protocol.RaftClientReply;
import org.apache.ratis.protocol.RaftGroup;
import org.apache.ratis.protocol.RaftPeer;
import org.apache.ratis.protocol.RaftPeerId;
import org.apache.ratis.protocol.RoutingTable;
import org.apache.ratis.protocol.exceptions.TimeoutIOException;
import org.apache.ratis.thirdparty.com.google.protobuf.ByteString;

/**
 * Streams bytes into a {@code blob} group by the Java DataStream client, in every shape of routing table. For each
 * stream that must be stored it prints {@code STREAM SHA256 LENGTH NAME}, so that the driver can read it back.
 *
 * <p>With {@code --header filestore} it streams into the original's FileStore example instead; the refusals, which are
 * sluice's own, are left out.
 */
public final class DataStreamClient {
  private static final int MIB = 1 << 20;
  private static final int TIMEOUT_SECONDS = 120;

  private final Arguments arguments;
  private final RaftGroup group;
  private final List<RaftPeer> peers;
  private final boolean fileStore;
  private final String prefix = "interop-java-" + UUID.randomUUID().toString().substring(0, 8) + "-";

  private DataStreamClient(Arguments arguments) {
    this.arguments = arguments;
    this.group = arguments.group();
    this.peers = new ArrayList<>(group.getPeers());
    this.fileStore = arguments.text("header", "blob").equals("filestore");
    peers.sort((a, b) -> a.getId().toString().compareTo(b.getId().toString()));
  }

  public static void main(String[] args) {
    new DataStreamClient(new Arguments(args)).run();
  }

  private void run() {
    Report report = new Report("java-stream");
    int large = arguments.number("mib", 64) * MIB;
    RaftPeer first = peers.get(0);
    RaftPeer last = peers.get(peers.size() - 1);
    report.run("chain", () -> stored("chain", first, chain(first), bytes(1, large), MIB));
    report.run("star", () -> stored("star", first, star(first), bytes(2, large), MIB));
    report.run("chain-from-the-last", () -> stored("chain-last", last, chain(last), bytes(3, 3 * MIB + 17), MIB));
    report.run("no-table", () -> stored("no-table", last, null, bytes(4, 5 * MIB), MIB));
    report.run("packets-of-4000-bytes", () -> stored("small-packets", first, chain(first), bytes(5, 800_000), 4000));
    report.run("one-packet-of-16-mib", () -> stored("one-packet", first, star(first), bytes(6, 16 * MIB), 16 * MIB));
    report.run("one-byte", () -> stored("one-byte", first, chain(first), bytes(7, 1), MIB));
    report.run("empty", () -> stored("empty", first, chain(first), bytes(8, 0), MIB));
    report.run("eight-streams-of-one-client", this::eightStreams);
    if (!fileStore) {
      report.run("wrong-length", () -> refused(header("wrong-length", 999, null), bytes(9, 1000), "INVALID_ARGUMENT"));
      report.run("wrong-digest",
          () -> refused(header("wrong-digest", 1000, sha256(bytes(11, 5))), bytes(10, 1000), "INVALID_ARGUMENT"));
      report.run("name-of-1025-bytes",
          () -> refused(BlobHeader.encode("n".repeat(1025), -1, null), bytes(12, 10), "INVALID_ARGUMENT"));
      report.run("header-that-is-no-message",
          () -> refused(ByteString.copyFrom(new byte[] {-1, -1, -1}), bytes(13, 10), "INVALID_ARGUMENT"));
      report.run("name-with-other-bytes", this::otherBytes);
    }
    report.exit();
  }

  // ---- what must be stored

  private String stored(String name, RaftPeer primary, RoutingTable table, byte[] data, int packetBytes)
      throws Exception {
    try (RaftClient client = Clients.openStreaming(group, primary)) {
      return stored(client, name, table, data, packetBytes);
    }
  }

  private String stored(RaftClient client, String name, RoutingTable table, byte[] data, int packetBytes)
      throws Exception {
    long start = System.nanoTime();
    checkStored(stream(client, header(name, data.length, null), table, data, packetBytes), prefix + name, data);
    Report.print("STREAM %s %d %s", HexFormat.of().formatHex(sha256(data)), data.length, prefix + name);
    double seconds = (System.nanoTime() - start) / 1e9;
    return String.format("%d bytes, %.0f MB/s", data.length, data.length / 1e6 / seconds);
  }

  private String eightStreams() throws Exception {
    List<Thread> threads = new ArrayList<>();
    List<Throwable> failures = new ArrayList<>();
    try (RaftClient client = Clients.openStreaming(group, peers.get(0))) {
      for (int i = 0; i < 8; i++) {
        int number = i;
        Thread thread = new Thread(() -> {
          try {
            stored(client, "eight-" + number, number % 2 == 0 ? chain(peers.get(0)) : star(peers.get(0)),
                bytes(20 + number, MIB + number * 77_777), 100_000);
          } catch (Exception | AssertionError e) {
            synchronized (failures) {
              failures.add(e);
            }
          }
        });
        thread.start();
        threads.add(thread);
      }
      for (Thread thread : threads) {
        thread.join();
      }
    }
    Report.check(failures.isEmpty(), "%d of 8 streams failed: %s", failures.size(),
        failures.isEmpty() ? "" : Report.brief(failures.get(0)));
    return "";
  }

  /** One stream from header to the reply of the log; throws as soon as one reply of it is a failure. */
  private static RaftClientReply stream(RaftClient client, ByteString header, RoutingTable table, byte[] data,
      int packetBytes) throws Exception {
    ByteBuffer message = header.asReadOnlyByteBuffer();
    DataStreamOutput out =
        table == null ? client.getDataStreamApi().stream(message) : client.getDataStreamApi().stream(message, table);
    List<CompletableFuture<DataStreamReply>> replies = new ArrayList<>();
    for (int at = 0; at < data.length; at += packetBytes) {
      int length = Math.min(packetBytes, data.length - at);
      ByteBuffer packet = ByteBuffer.wrap(data, at, length);
      boolean end = at + length == data.length;
      replies.add(end ? out.writeAsync(packet, StandardWriteOption.SYNC) : out.writeAsync(packet));
    }
    CompletableFuture<DataStreamReply> close = out.closeAsync();
    long written = 0;
    for (CompletableFuture<DataStreamReply> future : replies) {
      written += succeeded(future, replies).getBytesWritten();
    }
    succeeded(close, replies);
    if (written != data.length) {
      throw new IOException("the replies say that " + written + " of " + data.length + " bytes were written");
    }
    return out.getRaftClientReplyFuture().get(TIMEOUT_SECONDS, TimeUnit.SECONDS);
  }

  /** The Java client fails all packets of a stream when one is refused; the refused one has the server's words. */
  private static DataStreamReply succeeded(CompletableFuture<DataStreamReply> future,
      List<CompletableFuture<DataStreamReply>> all) throws Exception {
    DataStreamReply reply;
    try {
      reply = future.get(TIMEOUT_SECONDS, TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      reply = all.stream().filter(other -> other.isDone() && !other.isCompletedExceptionally())
          .map(CompletableFuture::join).filter(other -> !other.isSuccess()).findFirst().orElse(null);
      if (reply == null) {
        throw e;
      }
    }
    if (!reply.isSuccess()) {
      throw new IOException(wordsOf(reply));
    }
    return reply;
  }

  private static String wordsOf(DataStreamReply reply) throws IOException {
    if (!(reply instanceof DataStreamReplyByteBuffer) || reply.getDataLength() == 0) {
      return "a failure without words: " + reply;
    }
    RaftClientReplyProto body = RaftClientReplyProto.parseFrom(((DataStreamReplyByteBuffer) reply).slice());
    return reply.getType() + " at " + reply.getStreamOffset() + ": " + body.getDataStreamException().getErrorMessage();
  }

  private void checkStored(RaftClientReply reply, String name, byte[] data) throws Exception {
    Report.check(reply.isSuccess(), "the log answered %s", reply);
    ByteString content = reply.getMessage().getContent();
    if (fileStore) {
      Report.check(content.equals(FileStoreHeader.encodeReply(data.length)), "FileStore answered %s", content);
      return;
    }
    BlobHeader.Reply answer = BlobHeader.decodeReply(content);
    Report.check(answer.name().equals(name), "the machine answered %s, want the name %s", answer, name);
    Report.check(answer.length() == data.length, "the machine answered %s, want %d bytes", answer, data.length);
    Report.check(answer.digest().equals(ByteString.copyFrom(sha256(data))), "the machine answered %s", answer);
  }

  // ---- what must be refused

  /** Somewhere on its way the stream must fail: in a reply to a packet, to CLOSE, or in the answer of the machine. */
  private String refused(ByteString header, byte[] data, String words) throws Exception {
    RaftClientReply reply;
    try (RaftClient client = Clients.openStreaming(group, peers.get(0))) {
      reply = stream(client, header, chain(peers.get(0)), data, 400);
    } catch (Exception expected) {
      for (Throwable cause = expected; cause != null; cause = cause.getCause()) {
        if (cause instanceof TimeoutException || cause instanceof TimeoutIOException) {
          throw expected; // silence is no refusal
        }
      }
      return "refused: " + Report.brief(expected);
    }
    if (!reply.isSuccess()) {
      String refusal = String.valueOf(reply.getException());
      Report.check(refusal.contains(words), "refused without the word %s: %s", words, refusal);
      return "refused by the log: " + refusal;
    }
    throw new AssertionError("stored, want " + words + ": " + BlobHeader.decodeReply(reply.getMessage().getContent()));
  }

  private String otherBytes() throws Exception {
    RaftPeer primary = peers.get(0);
    stored("other-bytes", primary, chain(primary), bytes(14, 300_000), 100_000);
    stored("other-bytes", primary, star(primary), bytes(14, 300_000), 100_000); // the same bytes again are fine
    return refused(header("other-bytes", 300_000, null), bytes(15, 300_000), "ALREADY_EXISTS");
  }

  // ---- parts

  private ByteString header(String name, long length, byte[] digest) {
    return fileStore ? FileStoreHeader.encode(prefix + name, length) : BlobHeader.encode(prefix + name, length, digest);
  }

  /** Primary first, then the others in order of their ids, each the successor of the one before. */
  private RoutingTable chain(RaftPeer primary) {
    RoutingTable.Builder table = RoutingTable.newBuilder();
    RaftPeerId previous = primary.getId();
    for (RaftPeer peer : peers) {
      if (peer != primary) {
        table.addSuccessor(previous, peer.getId());
        previous = peer.getId();
      }
    }
    return table.build();
  }

  private RoutingTable star(RaftPeer primary) {
    RaftPeerId[] others =
        peers.stream().filter(peer -> peer != primary).map(RaftPeer::getId).toArray(RaftPeerId[]::new);
    return RoutingTable.newBuilder().addSuccessors(primary.getId(), Arrays.asList(others)).build();
  }

  private static byte[] bytes(long seed, int size) {
    byte[] data = new byte[size];
    new Random(seed).nextBytes(data);
    return data;
  }

  private static byte[] sha256(byte[] data) throws Exception {
    return MessageDigest.getInstance("SHA-256").digest(data);
  }
}
