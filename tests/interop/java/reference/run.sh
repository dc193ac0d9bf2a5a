#!/usr/bin/env bash
# Runs the Java peers against three Java Ratis servers: what the original does is what the peers must accept.
#
#   reference/run.sh          environment: REFERENCE_BASE_PORT (default 17500)
#
# Counter servers first, with the leader killed in the middle and started again; then FileStore servers for the
# streams. Ends with `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$here/../../../.." && pwd)/build/interop/java
base_port=${REFERENCE_BASE_PORT:-17500}
group=02511d47-d67c-49a3-9011-abb3109a44c1
version=3.3.0
jar=$build/reference/ratis-examples-$version.jar # holds all of Ratis; nothing else may be on the class path
servers=n0@127.0.0.1:$base_port,n1@127.0.0.1:$((base_port + 10)),n2@127.0.0.1:$((base_port + 20))
work=$(mktemp -d)
declare -A pids=()
passed=0
failed=0

end_servers() {
  local id
  for id in "${!pids[@]}"; do
    kill -KILL "${pids[$id]}" 2>/dev/null || true
    wait "${pids[$id]}" 2>/dev/null || true
  done
  pids=()
}
trap 'end_servers; rm -rf "$work"' EXIT

start_server() { # start_server ID MACHINE
  mkdir -p "$work/$2/$1"
  java -Xmx1g -cp "$here:$build/reference:$jar" RatisServer "$1" "$work/$2/$1" "$group" "$2" "$servers" \
    >"$work/$2/$1.log" 2>&1 &
  pids[$1]=$!
}

start_servers() { # start_servers MACHINE
  local id deadline=$((SECONDS + 60))
  for id in n0 n1 n2; do
    start_server "$id" "$1"
  done
  until [[ $(cat "$work/$1"/*.log | grep -c '^UP') == 3 ]]; do
    if ((SECONDS > deadline)); then
      cat "$work/$1"/*.log >&2
      exit 1
    fi
    sleep 0.1 # between two looks at the logs of the original, its only sign; the deadline is above
  done
}

take() { # take LINE: prints it, or adds a summary
  if [[ $1 =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  elif [[ $1 == ok* || $1 == FAIL* ]]; then
    echo "$1"
  fi
}

peer() { # peer CLASS ARGUMENTS...
  local class=$1 line
  shift
  while IFS= read -r line; do
    take "$line"
  done < <(java -cp "$build/classes:$build/lib/*" "sluice.interop.$class" --servers "$servers" --group "$group" "$@")
}

counter_with_kill() {
  local line id
  coproc CLIENT { java -cp "$build/classes:$build/lib/*" sluice.interop.CounterClient --servers "$servers" \
    --group "$group" --kill yes; }
  local from=${CLIENT[0]} to=${CLIENT[1]}
  while IFS= read -r line <&"$from"; do
    take "$line"
    if [[ $line == HALF\ * ]]; then
      id=${line#HALF }
      kill -KILL "${pids[$id]}"
      wait "${pids[$id]}" 2>/dev/null || true
      echo "killed $id" >&"$to"
      start_server "$id" counter
    fi
  done
}

mvn --batch-mode --quiet -f "$here/../pom.xml" process-classes
if [[ ! -f $jar ]]; then
  mvn --batch-mode --quiet dependency:copy -Dartifact=org.apache.ratis:ratis-examples:$version \
    -DoutputDirectory="$build/reference"
fi
javac -cp "$jar" -d "$build/reference" "$here/RatisServer.java"
start_servers counter
peer AdminClient
peer CounterClient
counter_with_kill
peer AdminClient
end_servers
start_servers filestore
peer DataStreamClient --header filestore
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
