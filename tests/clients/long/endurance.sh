#!/usr/bin/env bash
# Endurance: a mix of redis-benchmark for a long time; memory, open files, threads and disk have to stay flat.
#
#   PUGDB=target/release/pugdb tests/clients/long/endurance.sh [MINUTES]    30 minutes by default, at least 3
#   tests/clients/long/endurance.sh --judge SAMPLES.csv                     judges samples of an earlier run again
#   tests/clients/long/endurance.sh --self-test                             shows that the judge notices leaks
#
# Not a part of CI. The server is one of its own, with 256 MiB of memory, so that it has filled them long before the first
# third of the run is over; that third is the warm-up and is not judged. Clients: SET, GET, INCR and MSET over 100,000
# keys with 50 connections, one command at a time and in pipelines of 16, and keys that live for 5 seconds. The samples
# of each 10 seconds stay in endurance.csv, in the current folder or where SAMPLES says.
#
# The judge takes for each figure the median of the slopes between all pairs of samples (Theil and Sen: a spike or a
# sawtooth does not move it), and what that makes over the judged time. More than the allowed rise is a leak:
#
#   resident memory   16 MiB, or 5 % of its median if that is more
#   open files        4, or 10 %
#   threads           2
#   disk              128 MiB, or 25 %
set -euo pipefail

SAMPLE_SECONDS=10
MEMORY=256MiB

# judge SAMPLES: prints a line for each figure; fails if one is not flat.
judge() {
    awk -F, '
        function median(values, count,    sorted, i, j, value) {
            for (i = 1; i <= count; i++) {
                value = values[i]
                for (j = i - 1; j > 0 && sorted[j] > value; j--) sorted[j + 1] = sorted[j]
                sorted[j + 1] = value
            }
            return count % 2 ? sorted[(count + 1) / 2] : (sorted[count / 2] + sorted[count / 2 + 1]) / 2
        }
        # The median slope lies where as many pairs are below as above: found by halving, without sorting all pairs.
        function median_slope(column,    low, high, middle, i, j, below, pairs, step) {
            low = high = 0
            for (i = 2; i <= count; i++)
                for (j = 1; j < i; j++) {
                    step = (sample[i, column] - sample[j, column]) / (sample[i, 1] - sample[j, 1])
                    if (step < low) low = step
                    if (step > high) high = step
                }
            pairs = count * (count - 1) / 2
            for (step = 0; step < 40; step++) {
                middle = (low + high) / 2
                below = 0
                for (i = 2; i <= count; i++)
                    for (j = 1; j < i; j++)
                        if (sample[i, column] - sample[j, column] <= middle * (sample[i, 1] - sample[j, 1])) below++
                if (below * 2 < pairs) low = middle; else high = middle
            }
            return high
        }
        function figure(name, column, unit, divide, least, share,    i, values, typical, slope, rise, allowed, flat) {
            for (i = 1; i <= count; i++) values[i] = sample[i, column] + 0
            typical = median(values, count)
            slope = median_slope(column)
            rise = slope * (sample[count, 1] - sample[1, 1])
            allowed = least > share * typical ? least : share * typical
            flat = rise <= allowed
            printf "%-16s median %9.1f %-4s %+9.2f a minute, %+8.1f over the judged time, allowed %8.1f: %s\n",
                name, typical / divide, unit, slope * 60 / divide, rise / divide, allowed / divide, flat ? "flat" : "RISES"
            if (!flat) failed = 1
        }
        NR > 1 { lines++; for (i = 1; i <= NF; i++) all[lines, i] = $i }
        END {
            if (lines < 15) { print "there are only " lines + 0 " samples; 15 are needed"; exit 2 }
            begin = all[1, 1] + (all[lines, 1] - all[1, 1]) / 3
            for (line = 1; line <= lines; line++) if (all[line, 1] >= begin) {
                count++
                for (i = 1; i <= 5; i++) sample[count, i] = all[line, i]
            }
            figure("resident memory", 2, "MiB", 1024, 16384, 0.05)
            figure("open files", 3, "", 1, 4, 0.10)
            figure("threads", 4, "", 1, 2, 0)
            figure("disk", 5, "MiB", 1024, 131072, 0.25)
            exit failed
        }
    ' "$1"
}

# Samples of half an hour with noise and a sawtooth, and one figure that leaks by so much a sample.
planted() { # planted RSS_KIB FILES THREADS DISK_KIB
    awk -v rss="$1" -v files="$2" -v threads="$3" -v disk="$4" 'BEGIN {
        srand(7)
        print "seconds,rss_kib,files,threads,disk_kib"
        for (i = 0; i < 180; i++) {
            warm = i < 40 ? i / 40 : 1
            printf "%d,%d,%d,%d,%d\n", i * 10, 300000 * warm + 8000 * rand() + i * rss,
                (rand() < 0.9 ? 90 : 40) + i * files, 9 + i * threads, 200000 + 90000 * ((i % 17) / 17) + i * disk
        }
    }'
}

self_test() {
    local samples name verdict report rising failed=0
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    samples=$scratch/samples
    expect_verdict() { # expect_verdict NAME flat|"a figure" LEAKS...
        name=$1 verdict=$2
        shift 2
        planted "$@" >"$samples"
        report=$(judge "$samples") || true
        rising=$(sed -n 's/ *median.*RISES$//p' <<<"$report")
        if [[ ${rising:-flat} == "$verdict" ]]; then printf 'as it should be: %-50s %s\n' "$name" "$verdict"
        else printf 'WRONG: %s: expected %s, got %s\n%s\n' "$name" "$verdict" "${rising:-flat}" "$report"; failed=1
        fi
    }
    expect_verdict "nothing leaks" flat 0 0 0 0
    expect_verdict "memory leaks 200 KiB in 10 seconds" "resident memory" 200 0 0 0
    expect_verdict "an open file leaks each minute" "open files" 0 0.17 0 0
    expect_verdict "a thread leaks in five minutes" threads 0 0 0.034 0
    expect_verdict "the disk fills by 2 MiB in 10 seconds" disk 0 0 0 2048
    expect_verdict "memory falls" flat -200 0 0 0
    return "$failed"
}

sample() { # sample PID FOLDER
    local rss threads files disk
    rss=$(awk '/^VmRSS:/ { print $2 }' "/proc/$1/status")
    threads=$(awk '/^Threads:/ { print $2 }' "/proc/$1/status")
    files=$(find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l)
    # Files vanish while it looks.
    disk=$(du -sk "$2" 2>/dev/null | cut -f1) || true
    echo "$SECONDS,$rss,$files,$threads,$disk"
}

load() { # load PORT
    local common=(-h 127.0.0.1 -p "$1" -c 50 -r 100000 -d 100 -q)
    while true; do
        redis-benchmark "${common[@]}" -t set,get,incr,mset -n 20000 -P 1
        redis-benchmark "${common[@]}" -t set,get,incr,mset -n 200000 -P 16
        redis-benchmark "${common[@]}" -n 20000 SET expiring:__rand_int__ value EX 5
        redis-benchmark "${common[@]}" -n 100000 -P 16 SET expiring:__rand_int__ value EX 5
    done
}

main() {
    local minutes=${1:-30} samples=${SAMPLES:-endurance.csv} pugdb server loader port began errors commands status=0
    ((minutes >= 3)) || { echo "at least 3 minutes, or there is nothing to judge" >&2; return 2; }
    pugdb=$(realpath "${PUGDB:?set PUGDB to the pugdb binary}")
    command -v redis-benchmark >/dev/null || { echo "redis-benchmark is missing; install redis-tools" >&2; return 2; }
    scratch=$(mktemp -d)
    trap 'kill -KILL ${loader:-} ${server:-} 2>/dev/null || true; rm -rf "$scratch"' EXIT

    # The key that it makes is gone with the rest.
    XDG_CONFIG_HOME=$scratch/config "$pugdb" serve --data "$scratch/data" --resp 127.0.0.1:0 --no-http --memory "$MEMORY" \
        >"$scratch/out" 2>"$scratch/err" &
    server=$!
    until grep -q '^ready on ' "$scratch/out"; do
        kill -0 "$server" 2>/dev/null || { cat "$scratch/err" >&2; return 1; }
        sleep 0.1
    done
    port=$(sed -n 's/^ready on [^,]*:\([0-9]*\),.*/\1/p' "$scratch/out")
    # In a session of its own, so that it ends with the benchmark it is in.
    export -f load
    setsid bash -c "load $port" >"$scratch/load" 2>&1 &
    loader=$!

    echo "endurance: $minutes minutes, samples in $samples"
    echo "seconds,rss_kib,files,threads,disk_kib" >"$samples"
    began=$SECONDS
    while ((SECONDS - began < minutes * 60)); do
        sleep "$SAMPLE_SECONDS"
        kill -0 "$server" 2>/dev/null || { echo "the server has ended:" >&2; cat "$scratch/err" >&2; return 1; }
        sample "$server" "$scratch/data" >>"$samples"
    done
    kill -TERM -- "-$loader"
    wait "$loader" 2>/dev/null || true
    loader=

    errors=$(info "$port" total_error_replies) commands=$(info "$port" total_commands_processed)
    [[ $errors == 0 ]] || { echo "the server replied with $errors errors"; status=1; }
    if grep -i -E 'error|warning|could not|failed|refused' "$scratch/load"; then status=1; fi
    kill -TERM "$server"
    wait "$server" || { echo "the server ended with code $?"; cat "$scratch/err"; status=1; }
    server=
    judge "$samples" || status=1
    echo "endurance: $minutes minutes, $commands commands, $errors errors: $( ((status)) && echo FAILED || echo flat)"
    return "$status"
}

info() { # info PORT FIELD
    redis-cli -h 127.0.0.1 -p "$1" info | tr -d '\r' | sed -n "s/^$2://p"
}

case ${1:-} in
    --self-test) self_test ;;
    --judge) judge "${2:?usage: $0 --judge SAMPLES.csv}" ;;
    *) main "$@" ;;
esac
