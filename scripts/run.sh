#!/usr/bin/env bash
# Three servers on loopback: streams one real file in, reads it back from each, and stays up until Ctrl-C.
#
# Data stays in build/run-data from one run to the next. SLUICE_BASE_PORT moves the ports (default 7400).
set -euo pipefail
cd "$(dirname "$0")/.."
port=${SLUICE_BASE_PORT:-7400}
data=${SLUICE_RUN_DATA:-build/run-data}
source scripts/cluster.sh

say "starting three servers"
start_cluster

# Named after its content, because names are immutable and the program is not.
name="programs/sluice-$(sha256sum <"$sluice" | cut -c1-12)"
say "streaming $sluice in through n0"
"$sluice" put "$sluice" --name "$name" --server "$(address 0)"
say "reading it back from every server"
read_back "$name" "$sluice" 0 1 2

cat <<END

== sluice is up: three servers, one group. Ctrl-C ends it.

      gRPC (Ratis, ByteStream)   DataStream         Streaming RPC      metrics
END
for i in 0 1 2; do
  base=$((port + 10 * i))
  printf '  n%d  127.0.0.1:%-17d 127.0.0.1:%-8d 127.0.0.1:%-8d http://127.0.0.1:%d/metrics\n' \
    $i $base $((base + 1)) $((base + 2)) $((base + 3))
done
cat <<END

Paste into a second terminal, from this folder:

  export SLUICE_SERVER=$(all_servers) PATH=\$PWD/$(dirname "$sluice"):\$PATH
  sluice status
  sluice put /usr/bin/git --name tools/git
  sluice get tools/git --server $(address 2) -o - | cmp - /usr/bin/git && echo equal
  sluice ls
  sluice stat $name
END
wait "$cluster_pid"
