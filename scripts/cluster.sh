# Sourced by run.sh and demo.sh: starts `sluice dev` with three servers and ends it on exit. Needs $data and $port.

sluice=${SLUICE_BINARY:-build/release/src/app/sluice}
[[ -x $sluice ]] || { echo "$0: $sluice is not built: make run builds it" >&2; exit 1; }

address() { echo "127.0.0.1:$((port + 10 * $1))"; }
all_servers() { echo "$(address 0),$(address 1),$(address 2)"; }
say() { printf '\n== %s\n' "$*"; }

# Starts the cluster and returns when every server is ready.
start_cluster() {
  mkdir -p "$data"
  "$sluice" dev --nodes 3 --dir "$data" --base-port "$port" &
  cluster_pid=$!
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap stop_cluster EXIT
  local deadline=$((SECONDS + 60))
  until cluster_ready; do
    kill -0 "$cluster_pid" 2>/dev/null || { echo "$0: the cluster ended before it was ready" >&2; exit 1; }
    ((SECONDS < deadline)) || { echo "$0: not ready after 60 s; see the log lines above" >&2; exit 1; }
    sleep 0.1
  done
}

# Ready: every server says so by itself, and the group has a leader.
cluster_ready() {
  local i
  for i in 0 1 2; do "$sluice" status --server "$(address $i)" >/dev/null 2>&1 || return 1; done
}

stop_cluster() {
  trap '' INT TERM
  kill -TERM "$cluster_pid" 2>/dev/null || true
  wait "$cluster_pid" 2>/dev/null || true
}

# read_back NAME FILE SERVER...: the bytes of NAME at each server are those of FILE.
read_back() {
  local name=$1 file=$2 i
  for i in "${@:3}"; do
    "$sluice" get "$name" --server "$(address "$i")" -o - | cmp - "$file"
    echo "n$i: $(stat -c %s "$file") bytes, equal"
  done
}
