#!/usr/bin/env bash
# ioredis as a client: node/main.js, with the library installed into a folder that is removed afterwards.
# Usage: ioredis.sh HOST PORT. The server's databases are emptied: give it a server of its own. Exits with 77 without Node.js.
set -euo pipefail
if (($# != 2)); then
    echo "usage: $0 HOST PORT (of a server whose data may be lost)" >&2
    exit 2
fi
cd "$(dirname "$0")"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "skipped: there is no Node.js with npm here"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r node cases "$scratch"
cd "$scratch/node"
timeout --kill-after=10 120 npm ci --no-audit --no-fund --ignore-scripts --silent
timeout --kill-after=10 180 node main.js "$1" "$2"
