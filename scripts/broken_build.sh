#!/usr/bin/env bash
# Shows that a test can fail: scripts/broken_build.sh NAME TARGET TEST, as in tests/broken_builds.txt
#
# Builds TARGET with -DSLUICE_BREAK=NAME and requires that TEST, and so the rule that NAME breaks, is seen to fail:
# by a failed expectation, not by a program that does not build, start or know the test.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: scripts/broken_build.sh NAME TARGET TEST} target=${2:?TARGET} test=${3:?TEST}
build=build/broken-$name

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -g1" -DSLUICE_BREAK="$name" \
  -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=mold
cmake --build "$build" --target "$target"
program=$(find "$build" -name "$target" -type f -perm -u+x -print -quit)

if ! "$program" --gtest_filter="$test" --gtest_list_tests | grep -q '^  '; then
  echo "broken build $name: $target has no test $test" >&2
  exit 1
fi
if output=$("$program" --gtest_filter="$test" 2>&1); then
  printf '%s\nbroken build %s: NOT caught: %s passes although the rule is broken\n' "$output" "$name" "$test" >&2
  exit 1
fi
# A SLUICE_CHECK that stops the process while TEST runs is a catch too: gtest has said RUN and never OK.
if grep -qF '[  FAILED  ]' <<<"$output" || grep -qF '[ RUN      ]' <<<"$output"; then
  echo "broken build $name: caught by $test"
else
  printf '%s\nbroken build %s: %s ended without running %s\n' "$output" "$name" "$target" "$test" >&2
  exit 1
fi
