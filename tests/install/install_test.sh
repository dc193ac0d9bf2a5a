#!/usr/bin/env bash
# Installs the build into a folder of its own, builds an example against it as a user would, and runs it:
# install_test.sh SOURCE_DIR BUILD_DIR [cmake options of the user's project]
set -euo pipefail
source_dir=$1 build_dir=$2
shift 2
work=$build_dir/tests/install/work
rm -rf "$work"
cmake --install "$build_dir" --prefix "$work/prefix" > /dev/null

# Every public header, so that one which needs what is not installed is found.
(cd "$source_dir/include" && for header in sluice/*.h; do echo "#include \"$header\""; done) > "$work/headers.cc"

export PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name sluice.pc)")
cmake -S "$source_dir/tests/install/user" -B "$work/user" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DEXAMPLE="$source_dir/examples/my_state_machine.cc" -DHEADERS="$work/headers.cc" "$@"
cmake --build "$work/user"

lib=$(dirname "$PKG_CONFIG_PATH")
for way in by_shared by_static by_SLUICE; do
  LD_LIBRARY_PATH=$lib "$work/user/$way"
done
# The shared one is what the linker was given, not by chance the archive.
readelf -d "$work/user/by_shared" | grep -q 'NEEDED.*libsluice\.so'
readelf -d "$work/user/by_SLUICE" | grep -q 'NEEDED.*libsluice\.so'
if readelf -d "$work/user/by_static" | grep -q 'NEEDED.*libsluice\.so'; then
  echo "by_static is linked to the shared library" >&2
  exit 1
fi
"$work/prefix/bin/sluice" config > /dev/null
