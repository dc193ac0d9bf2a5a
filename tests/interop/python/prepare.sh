#!/usr/bin/env bash
# Makes the virtual environment of the Python peer and its generated types under a build folder.
#
#   prepare.sh BUILD_FOLDER      then: BUILD_FOLDER/venv/bin/python bytestream_peer.py with PYTHONPATH=BUILD_FOLDER/types
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=${1:?usage: prepare.sh BUILD_FOLDER}

if ! cmp -s "$here/requirements.txt" "$build/venv/requirements.txt"; then
  rm -rf "$build/venv"
  python3 -m venv "$build/venv"
  "$build/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$build/venv/requirements.txt"
fi
rm -rf "$build/types"
mkdir -p "$build/types"
"$build/venv/bin/python" -m grpc_tools.protoc -I "$root/proto" --python_out="$build/types" \
  --grpc_python_out="$build/types" "$root/proto/google/bytestream/bytestream.proto"
