#!/bin/sh
# redis-cli as a client: a tour of every command, in RESP2 and RESP3, and its own modes.
# Usage: redis_cli.sh HOST PORT. The server's databases are emptied: give it a server of its own.
set -u
if [ $# -ne 2 ]; then
    echo "usage: $0 HOST PORT (of a server whose data may be lost)" >&2
    exit 2
fi
host=$1 port=$2
checks=0

fail() {
    echo "redis_cli.sh: $1" >&2
    exit 1
}

cli() {
    redis-cli -h "$host" -p "$port" --no-auth-warning "$@"
}

# check EXPECTED ARGUMENT...: what redis-cli prints for a command.
check() {
    expected=$1
    shift
    got=$(cli $mode "$@" 2>&1) || fail "redis-cli $mode $*: exit status $?: $got"
    [ "$got" = "$expected" ] || fail "redis-cli $mode $*: expected '$expected', got '$got'"
    checks=$((checks + 1))
}

# contains TEXT ARGUMENT...: a part of what redis-cli prints.
contains() {
    expected=$1
    shift
    got=$(cli $mode "$@" 2>&1) || fail "redis-cli $mode $*: exit status $?: $got"
    case $got in
    *"$expected"*) checks=$((checks + 1)) ;;
    *) fail "redis-cli $mode $*: '$expected' is not in '$got'" ;;
    esac
}

command -v redis-cli >/dev/null || fail "redis-cli is missing; install redis-tools"

for mode in -2 -3; do
    check OK flushall
    check PONG ping
    check hello ping hello
    check hello echo hello
    contains server hello
    contains 'ERR AUTH <password> called without any password' auth secret
    check OK select 3
    check RESET reset

    check OK set key value
    check value get key
    check '' get missing
    check '' set key other nx
    check '' set missing other xx
    check value set key other get
    check OK set key value ex 100
    [ "$(cli $mode ttl key)" -gt 90 ] || fail "a time to live of 100 s is too short"
    check OK set key value2 keepttl
    check 1 persist key
    check -1 ttl key
    check 1 pexpire key 100000
    check 0 expire key 10 gt
    check 1 expire key 1000 gt
    [ "$(cli $mode pttl key)" -gt 990000 ] || fail "a time to live of 1000 s is too short"
    check -2 ttl missing
    check string type key
    check none type missing
    check OK mset a 1 b 2 c 3
    check '1
2

3' mget a b missing c
    check 2 incr a
    check 1 decr a
    check 11 incrby a 10
    check 6 decrby a 5
    contains 'ERR value is not an integer or out of range' incr key
    check 2 exists a b missing
    check 4 dbsize
    check 2 del a b missing
    check 1 unlink c
    check '0
key' scan 0 match 'k*' count 100 type string
    check 1 -n 5 incr n
    check '' get n
    check OK -n 5 flushdb
    check 0 -n 5 dbsize

    contains redis_version:7.2.0 info
    contains estimated=1 info keyspace
    contains get command list
    contains get command info get
    contains summary command docs get
    check key command getkeys get key
    [ "$(cli $mode command count)" -gt 20 ] || fail "command count is too small"
    [ "$(cli $mode command | wc -l)" -gt 100 ] || fail "command lists too little"
    contains databases config get databases
    check OK config resetstat
    contains ERR config set maxmemory 1
    [ "$(cli $mode client id)" -gt 0 ] || fail "client id is not a number"
    check OK client setname pug
    check '' client getname
    contains cmd=client client info
    contains cmd=client client list
    check OK client setinfo lib-name cli
    check OK client no-evict on
    check OK client no-touch on
    contains 'ERR No such client' client kill 127.0.0.1:1
    check 0 client kill id 999999
    check OK client pause 1 write
    check OK client unpause
    check 0 client unblock 1
    contains 'not in this version' client tracking on
    contains 'not in this version' lpush key value
    contains 'ERR unknown command' nothing key value
    contains master role
    check 0 wait 0 0
    check OK save
    [ "$(cli $mode lastsave)" -gt 1700000000 ] || fail "lastsave is no time"
    [ "$(cli $mode time | head -n 1)" -gt 1700000000 ] || fail "time is no time"
    check OK debug sleep 0.01
    check OK config set slowlog-log-slower-than 0
    check OK set secret-key secret-value
    contains '(12 bytes)' slowlog get
    case $(cli $mode slowlog get -1) in *secret*) fail "the slow log holds what was written" ;; esac
    check OK config set slowlog-log-slower-than 10000
    check OK slowlog reset
    check '' latency latest
    contains histogram_usec latency histogram set
    contains cmdstat_set:calls= info commandstats
    contains errorstat_ERR:count= info errorstats
    check default acl whoami
    contains 'ERR wrong number of arguments' get
    check OK quit
done

# Its own modes.
mode=
check OK flushall
seq 1 1000 | sed 's/.*/SET pipe:& &/' | cli --pipe 2>&1 | grep -q 'errors: 0, replies: 1000' || fail "--pipe failed"
[ "$(cli --scan --pattern 'pipe:*' | sort -u | wc -l)" -eq 1000 ] || fail "--scan did not find the 1,000 keys"
head -c 1000000 /dev/urandom >"${TMPDIR:-/tmp}/redis_cli.$$"
cli -x set blob <"${TMPDIR:-/tmp}/redis_cli.$$" >/dev/null
# redis-cli adds a line end.
cli get blob | head -c 1000000 | cmp -s - "${TMPDIR:-/tmp}/redis_cli.$$"
same=$?
rm -f "${TMPDIR:-/tmp}/redis_cli.$$"
[ $same -eq 0 ] || fail "a value of a megabyte did not come back as it was"

# What Redis has no words for.
check OK set of-ada 1815 subject ada@example.org
check 1815 get of-ada
contains 'erased_subjects' pugdb key-status
contains 'PugDB erasure certificate' pugdb erase-subject ada@example.org
case $(cli mget of-ada pipe:1) in *ERASED*1*) ;; *) fail "mget does not tell the erased value from its neighbour" ;; esac

# Over TLS, with a certificate of the client.
if redis-cli --help 2>&1 | grep -q -e --cacert && [ -n "${PUGDB:-}" ]; then
    scratch=$(mktemp -d)
    XDG_CONFIG_HOME=$scratch "$PUGDB" serve --data "$scratch/data" --no-plain --tls-address 127.0.0.1:0 --http 127.0.0.1:0 \
        --tls-dir "$scratch/tls" --tls-clients required >"$scratch/out" 2>"$scratch/err" &
    server=$!
    trap 'kill -KILL "$server" 2>/dev/null; rm -rf "$scratch"' EXIT
    for _ in $(seq 200); do grep -q '^ready on ' "$scratch/out" && break; sleep 0.05; done
    tls_port=$(sed -n 's/^ready on .*; tls on [^;]*:\([0-9]*\);.*/\1/p' "$scratch/out")
    "$PUGDB" tls client ada --tls-dir "$scratch/tls" --out "$scratch/ada.pem" >/dev/null || fail "no certificate for a client"
    tls() { redis-cli --tls -h 127.0.0.1 -p "$tls_port" --cacert "$scratch/tls/ca.pem" "$@"; }
    [ "$(tls --cert "$scratch/ada.pem" --key "$scratch/ada.pem" set a b 2>&1)" = OK ] || fail "set over TLS: $(cat "$scratch/out" "$scratch/err")"
    [ "$(tls --cert "$scratch/ada.pem" --key "$scratch/ada.pem" get a 2>&1)" = b ] || fail "get over TLS"
    if tls get a >/dev/null 2>&1; then fail "a client without a certificate was served"; fi
    kill -TERM "$server" && wait "$server" || fail "the server over TLS ended badly"
    checks=$((checks + 3))
else
    echo "redis_cli.sh: this redis-cli has no TLS: that part was left out"
fi
printf 'SET typed "two words"\nGET typed\nQUIT\n' | cli | grep -q 'two words' || fail "commands on stdin failed"
check OK flushall
echo "redis_cli.sh: $checks commands answered as expected"
