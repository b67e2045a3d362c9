#!/usr/bin/env bash
# redis-rs as a client: the crate in rust/, a workspace of its own, built beside the main target folder.
# Usage: redis_rs.sh HOST PORT. The server's databases are emptied: give it a server of its own. Exits with 77 without cargo.
set -euo pipefail
if (($# != 2)); then
    echo "usage: $0 HOST PORT (of a server whose data may be lost)" >&2
    exit 2
fi
cd "$(dirname "$0")/rust"
if ! command -v cargo >/dev/null; then
    echo "skipped: there is no cargo here"
    exit 77
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../../target}/clients
timeout --kill-after=10 180 cargo build --quiet --locked
timeout --kill-after=10 180 "$CARGO_TARGET_DIR/debug/pugdb-client-tests" "$1" "$2"
