package sluice.interop;

import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.ratis.protocol.RaftGroup;
import org.apache.ratis.protocol.RaftGroupId;
import org.apache.ratis.protocol.RaftPeer;

/** Command line of the peers: {@code --key value} pairs, and what they mean to Ratis. */
final class Arguments {
  private final Map<String, String> values = new HashMap<>();

  Arguments(String[] args) {
    if (args.length % 2 != 0) {
      throw new IllegalArgumentException("arguments come in pairs: --key value");
    }
    for (int i = 0; i < args.length; i += 2) {
      if (!args[i].startsWith("--")) {
        throw new IllegalArgumentException("expected --key, got " + args[i]);
      }
      values.put(args[i].substring(2), args[i + 1]);
    }
  }

  String text(String key, String otherwise) {
    return values.getOrDefault(key, otherwise);
  }

  String text(String key) {
    String value = values.get(key);
    if (value == null) {
      throw new IllegalArgumentException("--" + key + " is missing");
    }
    return value;
  }

  int number(String key, int otherwise) {
    return values.containsKey(key) ? Integer.parseInt(values.get(key)) : otherwise;
  }

  /**
   * {@code --servers n0@127.0.0.1:7400,n1@…} with {@code --group UUID}. The data stream port follows the gRPC port
   * unless a server is written {@code id@host:port:dataStreamPort}.
   */
  RaftGroup group(UUID id) {
    return RaftGroup.valueOf(
        RaftGroupId.valueOf(id),
        Stream.of(text("servers").split(",")).map(Arguments::peer).collect(Collectors.toList()));
  }

  RaftGroup group() {
    return group(UUID.fromString(text("group")));
  }

  private static RaftPeer peer(String text) {
    String[] idAndAddress = text.split("@");
    String[] parts = idAndAddress.length == 2 ? idAndAddress[1].split(":") : new String[0];
    if (parts.length < 2 || parts.length > 3) {
      throw new IllegalArgumentException("expected id@host:port or id@host:port:dataStreamPort, got " + text);
    }
    int dataStreamPort = parts.length == 3 ? Integer.parseInt(parts[2]) : Integer.parseInt(parts[1]) + 1;
    return RaftPeer.newBuilder()
        .setId(idAndAddress[0])
        .setAddress(parts[0] + ":" + parts[1])
        .setDataStreamAddress(parts[0] + ":" + dataStreamPort)
        .build();
  }
}
