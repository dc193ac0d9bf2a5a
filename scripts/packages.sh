#!/usr/bin/env bash
# Installs what is missing from the named sections of packages.txt: scripts/packages.sh build check
#
# Needs neither root nor a network when everything is there. --list prints the packages without installing.
set -euo pipefail
cd "$(dirname "$0")/.."

list_only=
if [[ "${1:-}" == --list ]]; then list_only=1; shift; fi
if (($# == 0)); then
  echo "usage: scripts/packages.sh [--list] SECTION...   sections: $(sed -n 's/^\[\(.*\)\].*/\1/p' packages.txt | xargs)" >&2
  exit 2
fi

# Lines "package [unless:COMMAND]" of one section.
section_lines() {
  grep -q "^\[$1\]" packages.txt || { echo "packages.sh: packages.txt has no section [$1]" >&2; return 2; }
  awk -v want="[$1]" '/^\[/ { on = ($1 == want); next } { sub(/#.*/, "") } on && NF { print $1, $2 }' packages.txt
}

installed() { [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]; }

missing=()
for section in "$@"; do
  lines=$(section_lines "$section")
  while read -r package unless; do
    if [[ -n "$list_only" ]]; then echo "$package"; continue; fi
    if [[ -n "$unless" ]] && command -v "${unless#unless:}" >/dev/null; then continue; fi
    installed "$package" || missing+=("$package")
  done <<<"$lines"
done
((${#missing[@]})) || exit 0

if ((EUID == 0)); then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "packages.sh: ${#missing[@]} packages are missing, and this user is neither root nor has sudo. As root, run:" >&2
  echo "  apt-get update && apt-get install ${missing[*]}" >&2
  exit 1
fi

echo "packages.sh: installing ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}"
