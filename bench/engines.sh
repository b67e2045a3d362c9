#!/usr/bin/env bash
# YCSB over PugDB's own engines with 1 to 32 clients: the raw output as JSON lines on stdout, medians as a table on stderr.
#
#   cargo build --release
#   bench/engines.sh 10000 5 > bench/results/engines-10k.jsonl      # records, rounds
set -euo pipefail
cd "$(dirname "$0")/.."

records=${1:-10000}
rounds=${2:-5}
operations=${3:-100000}
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

for ((round = 0; round < rounds; round++)); do
    for threads in 1 2 4 8 16 32; do
        for engine in hash btree lsm partitioned; do
            timeout 300 target/release/pugdb bench ycsb --engine "$engine" --records "$records" --operations "$operations" \
                --value-bytes 512 --threads "$threads" --workload load,A,B,C,F,D --memory 2GiB --json | tee -a "$lines"
        done
    done
done

python3 - "$lines" >&2 <<'PYTHON'
import collections, json, statistics, sys

rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows[row["engine"], row["workload"], row["threads"]].append(row["ops_per_second"] / 1000)
threads = [1, 2, 4, 8, 16, 32]
print("| engine, workload |" + "".join(f" {count} |" for count in threads))
print("|---|" + "---:|" * len(threads))
for engine in ["hash", "btree", "lsm", "partitioned"]:
    for workload in ["load", "A", "B", "C", "D", "F"]:
        cells = [statistics.median(rows[engine, workload, count]) for count in threads]
        print(f"| {engine}, {workload} |" + "".join(f" {cell:.0f} |" for cell in cells))
PYTHON
