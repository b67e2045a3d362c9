#!/usr/bin/env bash
# The order of system calls: a sync of the log begins after a request has been read, and has ended before the reply that
# acknowledges it. (The record of a commit that is not synced is stored through a mapping, which is no system call.)
#
# The simulator proves what a missing sync would cost; this shows that the sync reaches the real operating system. The
# same check must fail for `--durability os`, which does not wait: a check that cannot fail proves nothing.
#
# Needs PUGDB (the binary), strace and redis-cli. Exits with 77 where processes may not be traced.
set -euo pipefail

pugdb=$(realpath "${PUGDB:?set PUGDB to the pugdb binary}")
dir=$(mktemp -d)
tracer=
cleanup() {
    [[ -z $tracer ]] || { pkill -KILL -P "$tracer" || true; kill -KILL "$tracer" 2>/dev/null || true; }
    rm -rf "$dir"
}
trap cleanup EXIT

if ! strace -o "$dir/probe" true 2>/dev/null; then
    echo "skipped: strace may not trace processes here"
    exit 77
fi

wait_for() { # wait_for SECONDS COMMAND...: until the command succeeds
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || { echo "gave up waiting for: $*" >&2; return 1; }
        sleep 0.05
    done
}

# Serves at a durability, sets two keys, stops. Leaves the trace in $dir/$1.trace.
trace_a_set() {
    local level=$1 out=$dir/$1.out port server
    : >"$out"
    strace -f -y -s 4096 -o "$dir/$level.trace" \
        -e trace=fdatasync,fsync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg \
        "$pugdb" serve --data "$dir/$level" --no-encryption --resp 127.0.0.1:0 --durability "$level" \
        >"$out" 2>&1 &
    tracer=$!
    wait_for 30 grep -q '^ready on ' "$out"
    port=$(sed -n 's/^ready on .*:\([0-9]*\),.*/\1/p' "$out")
    # The first one also makes the keyspace, whose own sync is not the one to be seen.
    [[ $(timeout 30 redis-cli -p "$port" SET first "before-$$") == OK ]]
    sleep 0.3
    [[ $(timeout 30 redis-cli -p "$port" SET key "$(marker)") == OK ]]
    server=$(pgrep -P "$tracer" -x pugdb)
    kill -TERM "$server"
    wait "$tracer"
    tracer=
}

marker() { echo "pugdb-strace-marker-$$"; }

# Reads a trace: after the marker was read from the client, what comes first, a whole sync of the log or the reply?
# A call that another thread interrupts stands on two lines: its start and, with the same process id, its end.
judge() {
    awk -v marker="$(marker)" '
        function ends_well(line) { return line ~ /= [0-9]+$/ || line ~ /= [0-9]+ / }
        { process = $1 }
        # What was read stands in the line in which the call ends.
        /(read|readv|recvfrom|recvmsg)(\(| resumed>)/ && index($0, marker) { asked = 1; next }
        !asked { next }
        # Only a sync that begins after the request counts.
        /fdatasync\(|fsync\(/ && /\.log>/ {
            if ($0 ~ /<unfinished/) syncing[process] = 1; else if (ends_well($0)) synced = 1
            next
        }
        /<\.\.\. (fdatasync|fsync) resumed>/ && syncing[process] { syncing[process] = 0; if (ends_well($0)) synced = 1; next }
        /(sendto|sendmsg|write|writev)\(/ && /"\+OK\\r\\n"/ { print (synced ? "synced" : "early"); answered = 1; exit }
        END { if (!answered) print (asked ? "no reply seen" : "no request seen") }
    ' "$1"
}

for level in sync os; do
    trace_a_set "$level"
    verdict=$(judge "$dir/$level.trace")
    expected=$([[ $level == sync ]] && echo synced || echo early)
    echo "durability $level: $verdict"
    if [[ $verdict != "$expected" ]]; then
        echo "expected: $expected; the calls around it:" >&2
        grep -n -A12 "$(marker)" "$dir/$level.trace" | cut -c1-200 | head -40 >&2
        exit 1
    fi
done
