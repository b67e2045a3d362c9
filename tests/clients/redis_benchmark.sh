#!/bin/sh
# redis-benchmark as a client: SET, GET and INCR in pipelines of 16 on 50 connections, without an error.
# Usage: redis_benchmark.sh HOST PORT [REQUESTS]. It writes keys of its own into database 0.
set -u
if [ $# -lt 2 ]; then
    echo "usage: $0 HOST PORT [REQUESTS]" >&2
    exit 2
fi
host=$1 port=$2 requests=${3:-200000}

fail() {
    echo "redis_benchmark.sh: $1" >&2
    exit 1
}

command -v redis-benchmark >/dev/null || fail "redis-benchmark is missing; install redis-tools"
redis-cli -h "$host" -p "$port" config resetstat >/dev/null || fail "the server does not answer"
output=$(redis-benchmark -h "$host" -p "$port" -t set,get,incr -n "$requests" -c 50 -P 16 -q 2>&1) ||
    fail "redis-benchmark failed: $output"
output=$(printf '%s\n' "$output" | tr '\r' '\n')
if printf '%s\n' "$output" | grep -i -E 'error|warning|could not|failed|refused'; then
    fail "redis-benchmark complained"
fi
for test in SET GET INCR; do
    printf '%s\n' "$output" | grep -E "^$test: .*requests per second" || fail "there is no result of $test"
done
errors=$(redis-cli -h "$host" -p "$port" info stats | tr -d '\r' | sed -n 's/^total_error_replies://p')
[ "$errors" = 0 ] || fail "the server replied with $errors errors"
