#!/usr/bin/env bash
# Runs the foreign peers against three sluice servers: Go and Python ByteStream clients, Java Ratis clients.
#
#   run.sh [SLUICE_BINARY] [PART]...        PART: go python java; all of them unless some are named
#   SLUICE=build/release/sluice tests/interop/run.sh
#
# Needs bash, python3 with venv, go, a JDK 17 and Maven; what they download and build goes under build/interop.
# Environment: SLUICE (the binary), INTEROP_BASE_PORT (default 17400), INTEROP_KEEP=1 (keep the data and the logs).
#
# What it takes for granted about sluice:
# - `sluice dev --nodes 3 --dir D --base-port P --group UUID=MACHINE` starts its servers as its own children, each with
#   `--id n0`, `--id n1`, `--id n2` on its command line and its gRPC port at P + 10·i, DataStream one higher; when it
#   gets TERM it ends them and itself.
# - `sluice status --json --server ADDRESSES` exits with 0 once it can answer, and prints
#     {"servers": [{"id": "n0", "ready": true, …}, …], "groups": [{"id": "UUID", "leader": "n1", …}, …], …}
#   where `leader` is empty or absent while there is none.
# - `sluice get NAME -o FILE --server ADDRESS` exits with 0 when FILE holds the bytes.
# - A server that was killed comes back either by `dev` itself or, when `dev` leaves it dead for 5 seconds, by this
#   driver with the command line that the server had, without `--bootstrap`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$root/build/interop
if [[ $# -gt 0 && ! $1 =~ ^(go|python|java)$ ]]; then
  SLUICE=$1
  shift
fi
sluice=$(realpath "${SLUICE:?give the sluice binary as the first argument or in SLUICE}")
parts=" ${*:-go python java} "
base_port=${INTEROP_BASE_PORT:-17400}
blob_group=00000000-0000-0000-0000-736c75696365
counter_group=02511d47-d67c-49a3-9011-abb3109a44c1

addresses=()
peers=()
for i in 0 1 2; do
  addresses+=("127.0.0.1:$((base_port + 10 * i))")
  peers+=("n$i@${addresses[$i]}")
done
servers=$(IFS=,; echo "${addresses[*]}")
ratis_servers=$(IFS=,; echo "${peers[*]}")

work=$(mktemp -d)
passed=0
failed=0
started=() # process ids that this driver started and must end

end_processes() {
  local pid
  for pid in "${started[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  for pid in "${started[@]}"; do
    wait "$pid" 2>/dev/null || true
  done
  started=()
}

clean_up() {
  local status=$?
  end_processes
  if [[ ${INTEROP_KEEP:-0} == 1 || $status -ne 0 ]]; then
    echo "data and logs are kept in $work"
  else
    rm -rf "$work"
  fi
}
trap clean_up EXIT

note() { # note ok|FAIL NAME [TEXT]
  if [[ $1 == ok ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
  printf '%-4s %s %s\n' "$1" "$2" "${3:-}"
}

# Adds the `N passed, N failed` line of a peer to ours; a peer that ended without one failed.
add_summary() { # add_summary PEER OUTPUT
  local line
  line=$(tail -n 1 "$2")
  if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    note FAIL "$1" "ended without a summary"
  fi
}

run_peer() { # run_peer NAME COMMAND...
  local name=$1
  shift
  "$@" >"$work/$name.out" 2>"$work/$name.err" || true
  grep -Ev '^([0-9]+ passed, |STREAM |COUNTER )' "$work/$name.out" || true
  tail -n 5 "$work/$name.err" >&2
  add_summary "$name" "$work/$name.out"
}

# ---- the cluster

# True if the status in $1 shows three ready servers and a leader in both groups.
is_ready() {
  python3 - "$1" "$blob_group" "$counter_group" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as file:
    status = json.load(file)
servers = status.get("servers", [])
leaders = {group.get("id"): group.get("leader") for group in status.get("groups", [])}
ready = len(servers) == 3 and all(server.get("ready") for server in servers)
sys.exit(0 if ready and all(leaders.get(group) for group in sys.argv[2:]) else 1)
PYTHON
}

wait_until_ready() { # gives up after 60 s
  local deadline=$((SECONDS + 60))
  while ((SECONDS < deadline)); do
    if "$sluice" status --json --server "$servers" >"$work/status.json" 2>"$work/status.err" &&
      is_ready "$work/status.json" 2>>"$work/status.err"; then
      return 0
    fi
    if ! kill -0 "$dev_pid" 2>/dev/null; then
      echo "sluice dev ended by itself:" >&2
      tail -n 20 "$work/dev.log" >&2
      return 1
    fi
    sleep 0.1 # between two questions: a foreign process tells nobody when it is there; the deadline is above
  done
  echo "the servers were not ready within 60 s; the last status:" >&2
  cat "$work/status.json" "$work/status.err" >&2
  tail -n 20 "$work/dev.log" >&2
  return 1
}

start_cluster() {
  "$sluice" dev --nodes 3 --dir "$work/data" --base-port "$base_port" --group "$counter_group=counter" \
    >"$work/dev.log" 2>&1 &
  dev_pid=$!
  started+=("$dev_pid")
  wait_until_ready
}

# Process id of one server: the child of `sluice dev` that has `--id ID` on its command line.
server_pid() { # server_pid ID
  local pid previous argument
  for pid in $(ps -o pid= --ppid "$dev_pid"); do
    previous=
    while IFS= read -r -d '' argument; do
      if [[ ($previous == --id && $argument == "$1") || $argument == "--id=$1" ]]; then
        echo "$pid"
        return 0
      fi
      previous=$argument
    done 2>/dev/null <"/proc/$pid/cmdline" || true
  done
  return 1
}

kill_server() { # kill_server ID; keeps its command line in killed_command
  local pid argument
  pid=$(server_pid "$1")
  killed_command=()
  while IFS= read -r -d '' argument; do
    [[ $argument == --bootstrap ]] || killed_command+=("$argument")
  done <"/proc/$pid/cmdline"
  killed_folder=$(readlink "/proc/$pid/cwd")
  kill -KILL "$pid"
}

restart_server() { # restart_server ID
  local deadline=$((SECONDS + 5))
  while ((SECONDS < deadline)); do
    if server_pid "$1" >/dev/null; then
      wait_until_ready
      return
    fi
    sleep 0.1 # between two questions: a foreign process tells nobody when it is there; the deadline is above
  done
  (cd "$killed_folder" && exec "${killed_command[@]}") >"$work/restarted-$1.log" 2>&1 &
  started+=("$!")
  wait_until_ready
}

# ---- the peers

run_go() {
  mkdir -p "$build/go"
  (cd "$here/go" && go build -o "$build/go/" ./cmd/...)
  run_peer go "$build/go/bytestream_peer" -servers "$servers" \
    -services ratis.grpc.RaftClientProtocolService,ratis.grpc.RaftServerProtocolService,ratis.grpc.AdminProtocolService
}

run_python() {
  "$here/python/prepare.sh" "$build/python"
  run_peer python env PYTHONPATH="$build/python/types" PYTHONDONTWRITEBYTECODE=1 \
    "$build/python/venv/bin/python" "$here/python/bytestream_peer.py" --servers "$servers"
}

java_peer() { # java_peer CLASS ARGUMENTS...
  local class=$1
  shift
  java -Xmx1g -cp "$build/java/classes:$build/java/lib/*" "sluice.interop.$class" --servers "$ratis_servers" "$@"
}

# The leader dies when half of the increments are answered: the client says who answered, we kill that one.
counter_with_kill() {
  local output=$work/java-counter-kill.out line killed=
  coproc CLIENT { java_peer CounterClient --group "$counter_group" --count 1000 --kill yes 2>"$work/java-counter-kill.err"; }
  local client_pid=$CLIENT_PID from=${CLIENT[0]} to=${CLIENT[1]}
  : >"$output"
  while IFS= read -r line <&"$from"; do
    echo "$line" >>"$output"
    if [[ $line == HALF\ * && -z $killed ]]; then
      killed=${line#HALF }
      kill_server "$killed"
      echo "killed $killed" >&"$to"
    fi
  done
  wait "$client_pid" 2>/dev/null || true
  grep -E '^(ok|FAIL)' "$output" || true
  add_summary java-counter-kill "$output"
  if [[ -z $killed ]]; then
    note FAIL java-counter-kill "the leader was not killed"
    return
  fi
  restart_server "$killed"
}

# Every stream that the Java client calls stored is read from each server by sluice's own client.
read_streams_back() {
  local word digest length name address file=$work/stream.bytes
  while read -r word digest length name; do
    [[ $word == STREAM ]] || continue
    for address in "${addresses[@]}"; do
      rm -f "$file"
      if ! "$sluice" get "$name" -o "$file" --server "$address" >"$work/get.log" 2>&1; then
        note FAIL "java-stream/get-$name" "from $address: $(tail -n 1 "$work/get.log")"
      elif [[ $(stat -c %s "$file") != "$length" || $(sha256sum <"$file") != "$digest"* ]]; then
        note FAIL "java-stream/get-$name" "from $address: $(stat -c %s "$file") bytes that differ from the $length"
      else
        note ok "java-stream/get-$name" "from $address"
      fi
    done
  done < <(sort -u "$work/java-stream.out")
}

run_java() {
  mvn --batch-mode --quiet -f "$here/java/pom.xml" process-classes
  run_peer java-admin java_peer AdminClient --group "$counter_group"
  run_peer java-stream java_peer DataStreamClient --group "$blob_group"
  read_streams_back
  run_peer java-counter java_peer CounterClient --group "$counter_group" --count 1000
  counter_with_kill
  run_peer java-admin-after-kill java_peer AdminClient --group "$counter_group"
}

start_cluster
for part in go python java; do
  if [[ $parts == *" $part "* ]]; then
    "run_$part"
  fi
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
