#!/usr/bin/env bash
# Builds the server with the preset's sanitizers and ends it in all ways under load:
# scripts/sanitized_servers.sh asan|tsan SECONDS [BASE_PORT]. The clients are those of the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: scripts/sanitized_servers.sh asan|tsan SECONDS [BASE_PORT]}
seconds=${2:?usage: scripts/sanitized_servers.sh asan|tsan SECONDS [BASE_PORT]}
cmake --preset "$preset"
cmake --build --preset "$preset" --target sluice
clients=${SLUICE_CLIENTS:-build/release}
cd "build/$preset"
../../tests/fault/ended_servers_test.py "$PWD/src/app/sluice" "../../$clients/src/app/sluice" \
  "../../$clients/examples/stream_files" "$seconds" "${3:-19700}"
