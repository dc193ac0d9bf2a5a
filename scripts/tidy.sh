#!/usr/bin/env bash
# clang-tidy with build/release's flags: scripts/tidy.sh --all, or --since COMMIT for what changed since.
#
# Time is bounded for --since (SLUICE_TIDY_S seconds, default 600): it says which files it did not reach.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/release
budget_s=${SLUICE_TIDY_S:-600}
[[ -f $build/compile_commands.json ]] || { echo "tidy.sh: $build is not configured: cmake --preset release" >&2; exit 2; }

case "${1:-}" in
  --all) budget_s=86400; mapfile -t files < <(git ls-files 'src/*.cc' 'sim/*.cc' 'bench/*.cc' 'examples/*.cc') ;;
  --since)
    # A changed header is checked through the source of the same name.
    mapfile -t files < <(git diff --name-only --diff-filter=d "$2" HEAD -- 'src/*.cc' 'sim/*.cc' 'bench/*.cc' 'examples/*.cc' \
      'src/*.h' 'sim/*.h' | sed 's/\.h$/.cc/' | sort -u | while read -r file; do [[ -f $file ]] && echo "$file"; done) ;;
  *) echo "usage: scripts/tidy.sh --all | --since COMMIT" >&2; exit 2 ;;
esac

report=$(mktemp -d)
trap 'rm -rf "$report"' EXIT
deadline=$(($(cut -d. -f1 /proc/uptime) + budget_s))  # by a clock that child shells share
export report build deadline

tidy_one() {
  local name=${1//\//_} left=$((deadline - $(cut -d. -f1 /proc/uptime)))
  grep -qF "/$1\"" $build/compile_commands.json || return 0  # not part of this configuration, e.g. a fuzzer
  ((left > 0)) || { echo "$1" >"$report/$name.late"; return 0; }
  # GCC's -Werror is GCC's business: here only the checks of .clang-tidy decide.
  timeout "$left" clang-tidy-14 --quiet -p $build --extra-arg=-Wno-everything "$1" >"$report/$name.out" 2>/dev/null
  case $? in
    0) ;;
    124) echo "$1" >"$report/$name.late" ;;
    *) cat "$report/$name.out"; echo "$1" >"$report/$name.bad" ;;
  esac
}
export -f tidy_one
if ((${#files[@]})); then
  printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'tidy_one {}'
fi

count() { find "$report" -name "*.$1" | wc -l; }
if (($(count late))); then echo "tidy: out of time before: $(cat "$report"/*.late | xargs)"; fi
echo "tidy: ${#files[@]} files, $(count bad) with findings, $(count late) not reached"
(($(count bad) == 0))
