#!/usr/bin/env python3
"""What a real redis-server saves, imported: every string key and its expiry answers the same from both.

Usage: rdb_import.py HOST PORT (not used: this needs servers of its own). PUGDB is the binary. Skips without redis-server.
"""

import base64
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import redis

PUGDB = os.environ["PUGDB"]
DATABASES = (0, 1, 7, 15)


def expect(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r:.300}, got {got!r:.300}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_redis(folder, *options):
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", "", *options],
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(host="127.0.0.1", port=port)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
            return server, port
        except redis.ConnectionError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("redis-server does not start")
            time.sleep(0.05)


def start_pugdb(data):
    server = subprocess.Popen(
        [PUGDB, "serve", "--data", data, "--resp", "127.0.0.1:0", "--no-encryption"], stdout=subprocess.PIPE, text=True
    )
    for line in server.stdout:
        ready = re.match(r"ready on .*:(\d+),", line)
        if ready:
            return server, int(ready.group(1))
    raise AssertionError("pugdb serve does not start")


def stop(server):
    server.terminate()
    server.wait(timeout=30)


def strings(db):
    """Values of every encoding, and keys to match."""
    rng = random.Random(1000 + db)
    everything = {
        b"empty": b"",
        b"": b"under the empty key",
        b"text": "größe 東京".encode(),
        b"binary \x00\xff\r\n": bytes(range(256)),
        b"key " * 4_000: b"under a long key",
        b"12345": b"under a number",
        b"incompressible": rng.randbytes(100_000),
        b"long": b"pug " * 100_000,
        b"long too": bytes(rng.choice(b"ab") for _ in range(50_000)),
        b"one byte": b"x",
        b"float": b"3.25",
        b"no number": b"007",
        b"plus": b"+5",
    }
    edges = (7, 8, 15, 16, 31, 32, 63)
    numbers = {0, 1, -1, 9, 10, 123} | {sign * 2**e + step for e in edges for sign in (1, -1) for step in (-1, 0, 1)}
    everything.update({b"number %d" % n: b"%d" % n for n in numbers if -(2**63) <= n < 2**63})
    # 6-bit, 14-bit and 32-bit lengths, around their edges.
    for length in (63, 64, 65, 16_383, 16_384, 16_385):
        everything[b"length %d" % length] = rng.randbytes(length)
        everything[b"repeated %d" % length] = b"ab" * (length // 2)
    for n in range(500):
        everything[b"random %d" % n] = rng.randbytes(rng.randrange(200))
    return everything


def fill(port):
    now = int(time.time() * 1000)
    for db in DATABASES:
        client = redis.Redis(host="127.0.0.1", port=port, db=db)
        for number, (key, value) in enumerate(sorted(strings(db).items())):
            client.set(key, value)
            if number % 3 == 0:
                client.pexpireat(key, now + 3_600_000 + number)
            if number % 3 == 1 and number % 2:
                client.expireat(key, now // 1000 + 7_200 + number)
    client = redis.Redis(host="127.0.0.1", port=port)
    # Small ones and large ones: each type has several encodings.
    counts = {"list": 0, "set": 0, "zset": 0, "hash": 0, "stream": 0}
    for size in (3, 2_000):
        items = [b"item %d" % n for n in range(size)]
        client.rpush(f"list {size}", *items)
        client.sadd(f"set {size}", *items)
        client.sadd(f"intset {size}", *range(size))
        client.zadd(f"zset {size}", {item: n / 3 for n, item in enumerate(items)} | {"inf": float("inf")})
        client.hset(f"hash {size}", mapping={item: item * 10 for item in items})
        for item in items[:200]:
            client.xadd(f"stream {size}", {b"field": item})
        client.xgroup_create(f"stream {size}", "group", id="0")
        client.xreadgroup("group", "consumer", {f"stream {size}": ">"}, count=5)
        for name, many in (("list", 1), ("set", 2), ("zset", 1), ("hash", 1), ("stream", 1)):
            counts[name] += many
    client.rpush("list of large ones", b"x" * 20_000, b"y" * 20_000)
    client.expire("list 3", 1_000)
    counts["list"] += 1
    client.function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    counts["function library"] = 1
    return counts


def compare(redis_port, pugdb_port, data):
    compared = 0
    for db in DATABASES:
        theirs = redis.Redis(host="127.0.0.1", port=redis_port, db=db)
        ours = redis.Redis(host="127.0.0.1", port=pugdb_port, db=db)
        keys = [key for key in theirs.keys() if theirs.type(key) == b"string"]
        expect(f"keys of db{db}", sorted(ours.scan_iter(count=1_000)), sorted(keys))
        expect(f"planted keys of db{db}", set(keys), set(strings(db)))
        for key in keys:
            expect(f"db{db} {key[:40]!r}", ours.get(key), theirs.get(key))
            ttls = ours.pttl(key), theirs.pttl(key)
            same = ttls[0] == ttls[1] or (min(ttls) >= 0 and abs(ttls[0] - ttls[1]) < 2_000)
            expect(f"db{db} ttl of {key[:40]!r}: {ttls}", same, True)
            compared += 1
    return compared


def compare_exactly(redis_port, data):
    """The expiry to the millisecond, as the export tells it."""
    for db in DATABASES:
        client = redis.Redis(host="127.0.0.1", port=redis_port, db=db)
        export = [PUGDB, "export", "jsonl", "-", "--data", data, "--keyspace", f"db{db}"]
        lines = subprocess.run(export, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        for line in lines.splitlines():
            row = json.loads(line)
            key = row["key"].encode() if "key" in row else base64.b64decode(row["key_base64"])
            at = client.execute_command("PEXPIRETIME", key)
            expect(f"db{db} expiry of {key[:40]!r}", row.get("expires_at_ms", -1), at)


def once(options):
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        server, port = start_redis(folder, *options)
        try:
            counts = fill(port)
            client = redis.Redis(host="127.0.0.1", port=port)
            # It expires between the dump and the import, which skips it.
            client.set("short", "1", px=200)
            client.save()
            while client.exists("short"):
                time.sleep(0.02)
            dump = os.path.join(folder, "dump.rdb")
            done = subprocess.run(
                [PUGDB, "import", "rdb", dump, "--data", data, "--no-encryption"], stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            expect(f"code of the import ({done.stderr})", done.returncode, 3)
            told = dict(
                (name, int(count)) for count, name in re.findall(r"^skipped: (\d+) of type (.+)$", done.stderr, re.M)
            )
            expect("types", told, counts)
            expect(f"expired ({done.stderr})", "skipped 1 that are expired" in done.stderr, True)
            compare_exactly(port, data)
            pugdb, pugdb_port = start_pugdb(data)
            try:
                compared = compare(port, pugdb_port, data)
            finally:
                stop(pugdb)
            print(f"redis {client.info('server')['redis_version']} {' '.join(options)}: {compared} keys are the same")
        finally:
            stop(server)


def main():
    if not shutil.which("redis-server"):
        print("skipped: there is no redis-server")
        sys.exit(77)
    once([])
    once(["--rdbcompression", "no", "--rdbchecksum", "no"])


main()
