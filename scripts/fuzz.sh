#!/usr/bin/env bash
# Builds the fuzzers (preset `fuzz`, clang) and runs each for some seconds on its corpus: scripts/fuzz.sh [SECONDS [NAME...]]
#
# Where they begin is another place each time, or SLUICE_FUZZ_SEED.
# What a fuzzer fails on stays in build/fuzz/findings/; run the fuzzer with that file as its argument to see it again.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
shift || true
command -v clang++-14 >/dev/null || { echo "fuzz.sh: clang++-14 is missing: scripts/packages.sh fuzz" >&2; exit 1; }
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
mkdir -p build/fuzz/findings
seed=${SLUICE_FUZZ_SEED:-0}
export seconds seed

fuzz_one() {
  local name found log corpus=()
  name=$(basename "$1")
  found=$(mktemp -d)  # new inputs are not kept: the corpus in the tree is made by hand
  log=build/fuzz/findings/$name.log
  for folder in src/*/testdata/corpus/"${name%_fuzz}"; do [[ -d $folder ]] && corpus+=("$folder"); done
  if "$1" -seed="$seed" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -artifact_prefix="build/fuzz/findings/$name-" \
      -print_final_stats=1 "$found" "${corpus[@]}" >"$log" 2>&1; then
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, no finding"
  else
    tail -n 40 "$log"
    echo "$name: FAILED"
  fi
  rm -rf "$found"
}
export -f fuzz_one

report=$(find build/fuzz/src -name '*_fuzz' -type f -perm -u+x | sort |
  { if (($#)); then grep -E "/($(IFS='|'; echo "$*"))\$" || true; else cat; fi } |
  xargs -P "$(nproc)" -I{} bash -c 'fuzz_one {}')
echo "$report"
[[ -n $report ]] || { echo "fuzz.sh: no such fuzzer: $*" >&2; exit 1; }
! grep -q FAILED <<<"$report"
