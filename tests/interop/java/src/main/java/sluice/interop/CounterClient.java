package sluice.interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.ratis.client.RaftClient;
import org.apache.ratis.protocol.RaftClientReply;

/**
 * Increments the counter {@code --count} times, at most 100 outstanding, and checks that each counted exactly once.
 *
 * <p>With {@code --kill yes} the leader dies in the middle: after half of the replies it prints {@code HALF ID}, where
 * ID is the server that answered, and goes on; the driver kills that server and writes a line to standard input. The
 * last 100 increments wait for that line, so that some are certain to meet a dead leader.
 */
public final class CounterClient {
  private static final int HELD_BACK = 100;
  private static final int TIMEOUT_SECONDS = 120;

  private CounterClient() {}

  public static void main(String[] args) throws IOException {
    Arguments arguments = new Arguments(args);
    Report report = new Report("java-counter");
    try (RaftClient client = Clients.open(arguments.group())) {
      int count = arguments.number("count", 1000);
      boolean kill = arguments.text("kill", "no").equals("yes");
      report.run(kill ? "pipelined-leader-killed" : "pipelined", () -> pipelined(client, count, kill));
      report.exit();
    }
  }

  private static String pipelined(RaftClient client, int count, boolean kill) throws Exception {
    int start = Clients.value(client.io().sendReadOnly(Clients.GET));
    AtomicInteger replies = new AtomicInteger();
    List<CompletableFuture<RaftClientReply>> futures = new ArrayList<>(count);
    for (int i = 0; i < count; i++) {
      if (kill && i == count - HELD_BACK) {
        waitForDriver();
      }
      // Blocks while 100 are outstanding.
      futures.add(client.async().send(Clients.INCREMENT).whenComplete((reply, failure) -> {
        if (reply != null && replies.incrementAndGet() == count / 2 && kill) {
          Report.print("HALF %s", reply.getReplierId());
        }
      }));
    }
    for (int i = 0; i < count; i++) {
      int value = Clients.value(futures.get(i).get(TIMEOUT_SECONDS, TimeUnit.SECONDS));
      Report.check(value == start + i + 1, "increment %d of %d answered %d, want %d", i + 1, count, value, start + i + 1);
    }
    RaftClientReply last = client.io().sendReadOnly(Clients.GET);
    int end = Clients.value(last);
    Report.check(end == start + count, "%d increments took the counter from %d to %d", count, start, end);
    Report.print("COUNTER %d", end);
    return String.format("%d to %d, now led by %s", start, end, last.getReplierId());
  }

  private static void waitForDriver() throws IOException {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    if (input.readLine() == null) {
      throw new IOException("standard input ended before the driver said that it killed the leader");
    }
  }
}
