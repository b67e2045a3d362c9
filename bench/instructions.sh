#!/usr/bin/env bash
# Counts the instructions of one get, one scan of 50 and one put on a warm database of 100,000 entries, with callgrind.
# The count hardly depends on the machine or on what else it does, so it shows a change that a clock does not.
# Prints one line each: of a database as it is by default, with a quota for the keyspace, encrypted, encrypted and of a subject, and
# with an audit log whose rules are about another keyspace. Ends with 77 when valgrind is not there.
#
#   bench/instructions.sh
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 77; }

CALLS=1000 # as in the example
cargo build --quiet --release -p pugdb-ycsb --example instructions
program=${CARGO_TARGET_DIR:-target}/release/examples/instructions
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

count() { # count VARIANT CALL...
    local variant=$1 call total
    shift
    "$program" prepare "$scratch/$variant" "$variant"
    for call in "$@"; do
        # Only the thread that is inside `measured` is counted: no background work, no opening, no warming up.
        valgrind --tool=callgrind --toggle-collect='*instructions*measured*' --callgrind-out-file="$scratch/$call.out" \
            "$program" "$call" "$scratch/$variant" "$variant" 2>"$scratch/$call.err" || { cat "$scratch/$call.err" >&2; exit 1; }
        total=$(sed -n 's/^\(summary\|totals\): *\([0-9]*\)$/\2/p' "$scratch/$call.out" | head -n 1)
        if [[ -z $total ]] || ((total == 0)); then
            echo "callgrind counted nothing in $call: is the function still called measured?" >&2
            exit 1
        fi
        printf '%-22s %7d instructions\n' "${call/scan/scan of 50}${variant:+, $variant}" $((total / CALLS))
    done
}

count plain get scan put
count quota put
count encrypted get put
count subject get put
count audited get put
