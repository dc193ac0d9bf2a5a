#!/usr/bin/env bash
# Builds the unit ring with the preset's sanitizers and runs it: scripts/sanitized_unit_ring.sh asan|tsan
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: scripts/sanitized_unit_ring.sh asan|tsan}
cmake --preset "$preset"
cmake --build --preset "$preset" --target unit_tests
ctest --preset "$preset" -L unit
