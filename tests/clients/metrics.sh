#!/usr/bin/env bash
# The pages for probes and scrapers: promtool finds nothing to say about the metrics, and they count what was done.
#
# Usage: metrics.sh HOST PORT, with the address of the server's HTTP in HTTP_ADDRESS. Needs promtool (Debian: the package
# prometheus, whose server need not run) and redis-cli. Exits with 77 without promtool.
set -euo pipefail

if [[ $# -ne 2 || -z ${HTTP_ADDRESS:-} ]]; then
    echo "usage: HTTP_ADDRESS=HOST:PORT $0 HOST PORT" >&2
    exit 2
fi
if ! command -v promtool >/dev/null; then
    echo "skipped: there is no promtool"
    exit 77
fi
host=$1 port=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "metrics.sh: $1" >&2
    exit 1
}

# page NAME [HEADER]: the body of a page. Without curl, which is not everywhere.
page() {
    exec 3<>"/dev/tcp/${HTTP_ADDRESS%:*}/${HTTP_ADDRESS##*:}"
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n' "$1" "${2:+$2$'\r\n'}" >&3
    timeout 30 sed '1,/^\r$/d' <&3
    exec 3>&-
}

value() { # value NAME: of a sample
    awk -v name="$1" '$1 == name { print $2 }' "$dir/metrics"
}

[[ $(page /livez) == "the server answers" ]] || fail "/livez says something else"
[[ $(page /readyz) == ready ]] || fail "/readyz says something else"

redis-cli -h "$host" -p "$port" config resetstat >/dev/null
for number in 1 2 3; do redis-cli -h "$host" -p "$port" set "canary-$number" "canary-value" ex 100 >/dev/null; done
redis-cli -h "$host" -p "$port" incr canary-1 >/dev/null 2>&1
redis-cli -h "$host" -p "$port" lpush canary-1 canary >/dev/null 2>&1

page /metrics >"$dir/metrics"
promtool check metrics <"$dir/metrics" || fail "promtool complains"
[[ $(value 'pugdb_command_duration_seconds_count{command="set"}') == 3 ]] || fail "three SETs are not counted"
[[ $(value 'pugdb_command_failures_total{command="incr"}') == 1 ]] || fail "the failed INCR is not counted"
[[ $(value pugdb_ready) == 1 ]] || fail "it does not say that it is ready"
[[ $(value pugdb_resident_memory_bytes) -gt 1000000 ]] || fail "the memory is missing"
grep -q canary "$dir/metrics" && fail "the metrics hold what was stored"

page /metrics 'Accept: application/openmetrics-text; version=1.0.0' >"$dir/open"
[[ $(tail -n 1 "$dir/open") == "# EOF" ]] || fail "the page in the format of OpenMetrics does not end as it must"
echo "metrics.sh: $(grep -c '^# TYPE' "$dir/metrics") metrics, and promtool has nothing to say"
