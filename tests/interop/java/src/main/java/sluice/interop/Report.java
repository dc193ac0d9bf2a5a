package sluice.interop;

import java.util.logging.LogManager;

/** One line per case, a summary, and the exit code. */
final class Report {
  interface Check {
    /** Throws if the case fails; gives a remark to print. */
    String run() throws Exception;
  }

  private final String peer;
  private int passed;
  private int failed;

  Report(String peer) {
    this.peer = peer;
    LogManager.getLogManager().reset(); // gRPC's remarks about its transport are none of the report
  }

  void run(String name, Check check) {
    long start = System.nanoTime();
    try {
      String remark = check.run();
      passed++;
      print("ok   %s/%s (%d ms) %s", peer, name, millisSince(start), remark);
    } catch (Exception | AssertionError e) {
      failed++;
      print("FAIL %s/%s (%d ms): %s", peer, name, millisSince(start), brief(e));
    }
  }

  /** A line that the driver reads. */
  static void print(String format, Object... args) {
    System.out.printf(format + "%n", args);
    System.out.flush();
  }

  /** Does not return: threads of a client may outlive its close. */
  void exit() {
    print("%d passed, %d failed", passed, failed);
    System.exit(failed == 0 && passed > 0 ? 0 : 1);
  }

  static void check(boolean expectation, String format, Object... args) {
    if (!expectation) {
      throw new AssertionError(String.format(format, args));
    }
  }

  /** One line: Ratis lists every packet that was outstanding. */
  static String brief(Throwable failure) {
    String text = failure.toString().replaceAll("Request\\{[^}]*\\}, ", "").split("\n")[0];
    return text.length() > 400 ? text.substring(0, 400) + "…" : text;
  }

  private static long millisSince(long start) {
    return (System.nanoTime() - start) / 1_000_000;
  }
}
