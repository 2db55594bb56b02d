#!/bin/bash
# Installs the Debian packages of the named purposes (see deploy/packages.txt) that are missing.
# Usage: deploy/dev/install.sh build run test ...   Quiet and quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

wanted=()
for purpose in "$@"; do
    while read -r p package _; do
        [ "$p" = "$purpose" ] && wanted+=("$package")
    done <deploy/packages.txt
done

missing=()
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | sed -n 's/ installed$//p')
for package in "${wanted[@]}"; do
    grep -qx -- "$package" <<<"$installed" || missing+=("$package")
done
# a Node.js from elsewhere serves as well as Debian's
for purpose in "$@"; do
    if [[ "$purpose" =~ ^(test|code-server)$ ]] && ! command -v npm >/dev/null; then missing+=(nodejs npm); fi
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install.sh: needs root or sudo to install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "install.sh: apt-get failed for: ${missing[*]}" >&2
    exit 1
fi
