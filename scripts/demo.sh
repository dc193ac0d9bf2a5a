#!/usr/bin/env bash
# An upload survives its server: kills, with -9, the server that receives a large file, half-way through.
#
# The client goes on at another server by itself; the file is then read back from both survivors and compared.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${SLUICE_BASE_PORT:-7700}
data=build/demo-data
file=build/demo-file
file_bytes=$((512 * 1024 * 1024))
rm -rf "$data"
source scripts/cluster.sh

# The machine's own libraries are real data, and every machine has half a gigabyte of them once sluice is built.
{ tar -cf - --ignore-failed-read -C / usr/lib usr/bin 2>/dev/null || true; } | head -c "$file_bytes" >"$file"
[[ $(stat -c %s "$file") -eq $file_bytes ]] || { echo "demo.sh: this machine has less than 512 MiB of libraries" >&2; exit 1; }

pid_of() {  # by server id, as the cluster itself tells it
  "$sluice" status --json --server "$(all_servers)" |
    python3 -c 'import json, sys; print(next(s["pid"] for s in json.load(sys.stdin)["servers"] if s["id"] == sys.argv[1]))' "$1"
}
stored_bytes() { du -s -B1 "$data/n0" | cut -f1; }

say "starting three servers"
start_cluster
victim=$(pid_of n0)
before=$(stored_bytes)

say "streaming $((file_bytes >> 20)) MiB in through n0"
"$sluice" put "$file" --name demo/libraries --server "$(all_servers)" &
upload=$!
until (($(stored_bytes) - before > file_bytes / 2)); do
  kill -0 "$upload" 2>/dev/null || { echo "demo.sh: the upload ended before it was half-way" >&2; exit 1; }
done
kill -9 "$victim"
kill -0 "$upload" 2>/dev/null || { echo "demo.sh: the upload was faster than the kill; run it again" >&2; exit 1; }
say "killed n0 (pid $victim) with half of the file on it; the client looks for another server"
wait "$upload"

say "reading it back from the survivors"
read_back demo/libraries "$file" 1 2
say "the upload survived its server"
rm -f "$file"
