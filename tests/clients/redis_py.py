#!/usr/bin/env python3
"""redis-py as a client, in RESP2 and RESP3: all of cases/, and what the library makes of each command.

Usage: redis_py.py HOST PORT. The server's databases are emptied: give it a server of its own.

PUGDB        the binary, for the tests that start a server of their own
UNIX_SOCKET  where the server listens beside the port; without it that part is left out, and said so
AGAINST      "redis" compares a real Redis with the same expectations; default "pugdb"

It prints what is not as expected and then ends with 1.
"""

import contextlib
import linecache
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "python"))

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    print("skipped: there is no redis-py here")
    sys.exit(77)

from cases import Runner

# SETEX and others are deprecated, and to be served all the same.
warnings.filterwarnings("ignore", category=DeprecationWarning)
SERVER = os.environ.get("AGAINST", "pugdb")
MIB = 1 << 20
differences = []


def expect(got, *expected):
    """The value is one of the expected ones, or the line is a difference."""
    if got not in expected:
        differ(f"expected {' or '.join(map(shorten, expected))}, got {shorten(got)}")


@contextlib.contextmanager
def refused(text, kind=redis.RedisError):
    try:
        yield
    except kind as error:
        if text not in str(error):
            differ(f"expected an error with {text!r}, got {error!r}", above=3)
    else:
        differ(f"expected an error with {text!r}, got none", above=3)


def differ(what, above=2):
    frame = sys._getframe(above)
    name, line = frame.f_code.co_filename, frame.f_lineno
    differences.append(f"{Path(name).name}:{line}: {linecache.getline(name, line).strip()}\n    {what}")


def shorten(value):
    text = repr(value)
    return text if len(text) < 1000 else f"{text[:1000]}… ({len(text)} characters)"


def text(value):
    """redis-py decodes some replies in one protocol and not in the other."""
    return value.decode() if isinstance(value, bytes) else value


def texts(values):
    return [text(value) for value in values]


# What the library makes of each command, a function a family. `open_client(**options)` makes one more client.


def connections(r, open_client):
    expect(r.ping(), True)
    expect(r.echo("hello"), b"hello")
    expect(r.select(3), True)
    expect(r.select(0), True)
    with refused("DB index is out of range"):
        r.select(16)
    with open_client(db=5, client_name="pug") as five:
        expect(text(five.client_getname()), "pug")
        expect(five.client_info()["db"], "5", 5)
        five.set("only", "here")
        expect(r.get("only"), None)
        expect(five.get("only"), b"here")
    with refused("out of range"), open_client(db=99) as none:
        none.ping()
    with open_client(username="nobody", password="secret") as client, refused("", redis.AuthenticationError):
        client.ping()
    if r.connection_pool.connection_kwargs["protocol"] == 2:
        with open_client(password="secret") as client, refused("without any password", redis.AuthenticationError):
            client.ping()
    expect(text(r.acl_whoami()), "default")
    seconds, microseconds = r.time()
    expect(abs(seconds - time.time()) < 60, True)
    expect(0 <= microseconds < 1_000_000, True)
    expect(text(r.execute_command("RESET")), "RESET")
    expect(r.quit(), True)


def strings(r, _):
    expect(r.set("key", "value"), True)
    expect(r.get("key"), b"value")
    expect(r.get("missing"), None)
    expect(r.set("key", "other", nx=True), None)
    expect(r.set("missing", "other", xx=True), None)
    expect(r.set("key", "other", get=True), b"value")
    expect(r.set("fresh", "other", get=True, nx=True), None)
    expect(r.set("key", "value", ex=100), True)
    expect(r.ttl("key"), 100)
    expect(r.set("key", "value", keepttl=True), True)
    expect(90 < r.ttl("key") <= 100, True)
    expect(r.set("key", "value", px=100_000), True)
    expect(r.set("key", "value", exat=int(time.time()) + 1000), True)
    expect(r.set("key", "value", pxat=int(time.time() * 1000) + 1_000_000), True)
    expect(900_000 < r.pttl("key") <= 1_000_000, True)
    expect(r.setnx("key", 1), False)
    expect(r.setnx("setnx", 1), True)
    expect(r.setex("setex", 100, "value"), True)
    expect(r.psetex("psetex", 100_000, "value"), True)
    with refused("invalid expire time in 'setex' command"):
        r.setex("setex", 0, "value")
    expect(r.getset("key", "new"), b"value")
    expect(r.getdel("key"), b"new")
    expect(r.getdel("key"), None)
    r.set("key", "Hello")
    expect(r.getex("key", ex=100), b"Hello")
    expect(r.getex("key", persist=True), b"Hello")
    expect(r.ttl("key"), -1)
    expect(r.append("key", " World"), 11)
    expect(r.strlen("key"), 11)
    expect(r.getrange("key", -5, -1), b"World")
    expect(r.substr("key", 0, 4), b"Hello")
    expect(r.setrange("key", 6, "Redis"), 11)
    expect(r.mset({"a": 1, "b": 2}), True)
    expect(r.mget("a", "missing", "b"), [b"1", None, b"2"])
    expect(r.msetnx({"a": 1, "z": 2}), False)
    expect(r.msetnx({"y": 1, "z": 2}), True)
    expect(r.incr("n"), 1)
    expect(r.incrby("n", 10), 11)
    expect(r.decr("n"), 10)
    expect(r.decrby("n", 20), -10)
    expect(r.incrbyfloat("float", 0.1), 0.1)
    expect(r.incrbyfloat("float", 0.2), 0.3)
    with refused("not an integer"):
        r.incr("key")
    r.set("n", 2**63 - 1)
    with refused("overflow"):
        r.incr("n")
    r.mset({"key1": "ohmytext", "key2": "mynewtext"})
    expect(r.lcs("key1", "key2"), b"mytext")
    expect(r.lcs("key1", "key2", len=True), 6)
    matches = r.lcs("key1", "key2", idx=True, minmatchlen=4, withmatchlen=True)
    if isinstance(matches, list):
        matches = dict(zip(matches[::2], matches[1::2]))
    expect({text(key): value for key, value in matches.items()}, {"matches": [[[4, 7], [5, 8], 4]], "len": 6})


def any_bytes(r, _):
    every_byte = bytes(range(256))
    expect(r.set(every_byte, every_byte * 1000), True)
    expect(r.get(every_byte), every_byte * 1000)
    expect(r.keys(), [every_byte])
    expect(list(r.scan_iter()), [every_byte])
    expect(r.rename(every_byte, b""), True)
    expect(r.getrange("", 255, 256), b"\xff\x00")
    for size in (512 << 10, 64 * MIB):
        value = os.urandom(MIB) * (size // MIB) or os.urandom(size)
        expect(r.set("large", value), True)
        expect(r.strlen("large"), size)
        expect(r.get("large") == value, True)
        expect(r.append("large", "tail"), size + 4)
        expect(r.getrange("large", size, -1), b"tail")
        expect(r.mget("large", "missing") == [value + b"tail", None], True)
        expect(r.delete("large"), 1)


def expiry(r, _):
    r.set("key", "value")
    expect(r.expire("key", 100), True)
    expect(r.expire("missing", 100), False)
    expect(r.expire("key", 100, nx=True), False)
    expect(r.expire("key", 100, xx=True), True)
    expect(r.pexpire("key", 200_000, gt=True), True)
    expect(r.pexpire("key", 300_000, lt=True), False)
    expect(r.ttl("key"), 200)
    expect(199_000 < r.pttl("key") <= 200_000, True)
    expect(r.expireat("key", 33_177_117_420), True)
    expect(r.expiretime("key"), 33_177_117_420)
    expect(r.pexpireat("key", 33_177_117_420_123), True)
    expect(r.pexpiretime("key"), 33_177_117_420_123)
    with refused("not compatible"):
        r.expire("key", 100, nx=True, gt=True)
    expect(r.persist("key"), True)
    expect(r.persist("key"), False)
    expect((r.ttl("key"), r.ttl("missing"), r.expiretime("missing")), (-1, -2, -2))
    r.set("short", 1, px=1)
    time.sleep(0.02)
    expect((r.get("short"), r.exists("short"), list(r.scan_iter("short"))), (None, 0, []))


def keys(r, open_client):
    r.mset({"a": 1, "b": 2, "c": 3})
    expect(r.exists("a", "a", "missing"), 2)
    expect(r.touch("a", "missing"), 1)
    expect((r.type("a"), r.type("missing")), (b"string", b"none"))
    expect(r.rename("a", "x"), True)
    with refused("no such key"):
        r.rename("a", "x")
    expect((r.renamenx("x", "b"), r.renamenx("x", "a")), (False, True))
    expect(r.copy("a", "a2"), True)
    expect(r.copy("a", "a2"), False)
    expect(r.copy("a", "b", replace=True), True)
    expect(r.copy("a", "a", destination_db=7), True)
    with open_client(db=7) as seven:
        expect(seven.get("a"), b"1")
        expect(seven.move("a", 0), False)
        expect(r.delete("a"), 1)
        expect(seven.move("a", 0), True)
        expect(seven.dbsize(), 0)
        seven.set("seven", 7)
        expect(r.swapdb(0, 7), True)
        expect((seven.get("a"), r.get("seven"), r.dbsize()), (b"1", b"7", 1))
        expect(r.swapdb(0, 7), True)
    expect(r.randomkey() in r.keys(), True)
    expect(sorted(r.keys("[ab]*")), [b"a", b"a2", b"b"])
    expect(r.dbsize(), 4)
    expect(r.delete("a", "missing"), 1)
    expect(r.unlink("b", "missing"), 1)
    expect(r.object("encoding", "c") in (b"int", "int"), True)
    expect(r.object("refcount", "c") >= 1, True)
    expect(r.object("idletime", "c") >= 0, True)
    expect(r.memory_usage("c") > 0, True)
    expect(r.memory_usage("missing"), None)
    expect(r.flushdb(), True)
    expect(r.flushall(asynchronous=True), True)
    expect(r.dbsize(), 0)


def scanning(r, _):
    """What is there from beginning to end comes, also while others come and go."""
    stays = {f"stays:{number}".encode() for number in range(3000)}
    r.mset({key: 1 for key in stays})
    seen, rounds = set(), 0
    for key in r.scan_iter(match="stays:*", count=37):
        seen.add(key)
        if len(seen) % 100 == 0:
            rounds += 1
            r.set(f"comes:{rounds}", 1)
            r.set(f"stays!{rounds}", 1)
            r.delete(f"comes:{rounds - 1}")
    expect(seen == stays, True)
    expect(len(set(r.scan_iter(count=1000, _type="STRING"))) >= 3000, True)
    expect(list(r.scan_iter(_type="hash", count=1000)), [])
    expect(set(r.scan_iter(match="stays:299?", count=10_000)), {f"stays:299{n}".encode() for n in range(10)})
    cursor, some = r.scan(0, count=10)
    expect(cursor != 0 and 1 <= len(some) < 3000, True)
    with refused("syntax error"):
        r.scan(0, count=0)


def bits(r, _):
    r.set("key", "foobar")
    expect((r.bitcount("key"), r.bitcount("key", 1, 1), r.bitcount("key", 5, 30, "BIT")), (26, 6, 17))
    expect((r.getbit("key", 1), r.getbit("key", 1000)), (1, 0))
    expect((r.setbit("key", 7, 1), r.setbit("key", 7, 0)), (0, 1))
    r.set("key", b"\xff\xf0\x00")
    expect((r.bitpos("key", 0), r.bitpos("key", 1, 1, -1)), (12, 8))
    r.mset({"key1": "foobar", "key2": "abcdef"})
    expect((r.bitop("AND", "dest", "key1", "key2"), r.get("dest")), (6, b"`bc`ab"))
    expect(r.bitop("NOT", "dest", "key1"), 6)
    with refused("single source key"):
        r.bitop("NOT", "dest", "key1", "key2")
    fields = r.bitfield("fields", default_overflow="SAT")
    expect(fields.set("u8", 0, 250).incrby("u8", 0, 100).get("u4", "#0").execute(), [0, 255, 15])
    expect(r.bitfield("fields").incrby("u8", 0, 1, overflow="FAIL").execute(), [None])
    expect(r.bitfield_ro("fields", "u8", 0, [("i8", 0)]), [255, -1])
    with refused("Invalid bitfield type"):
        r.bitfield("fields").get("u64", 0).execute()


def serialised(r, _):
    for value in (b"", b"12", b"-70000", b"5000000000", b"007", b"text", os.urandom(300), b"ab" * 5000):
        r.set("key", value, ex=100)
        dumped = r.dump("key")
        expect(r.restore("copy", 0, dumped, replace=True), b"OK", "OK", True)
        expect((r.get("copy"), r.ttl("copy")), (value, -1))
    with refused("Target key name already exists"):
        r.restore("copy", 0, dumped)
    expect(r.restore("copy", int(time.time() * 1000) + 50_000, dumped, replace=True, absttl=True), b"OK", "OK", True)
    expect(40 < r.ttl("copy") <= 50, True)
    with refused("checksum"):
        r.restore("bad", 0, dumped[:-1] + bytes([dumped[-1] ^ 1]))
    with refused("checksum"):
        r.restore("bad", 0, b"")
    expect(r.exists("bad"), 0)


def pipelines(r, _):
    with r.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.set(f"pipe:{number}", number)
            pipe.get(f"pipe:{number}")
        replies = pipe.execute()
    expect(replies[1::2] == [str(number).encode() for number in range(10_000)], True)
    with r.pipeline(transaction=False) as pipe:
        pipe.set("text", "abc").incr("text").get("text")
        replies = pipe.execute(raise_on_error=False)
    expect(isinstance(replies[1], redis.ResponseError), True)
    expect(replies[2], b"abc")


def transactions(r, open_client):
    with r.pipeline(transaction=True) as pipe:
        expect(pipe.set("a", 1).incr("a").get("a").execute(), [True, 2, b"2"])
        # One that fails while it runs keeps the others' effects.
        pipe.set("text", "abc").incr("text").set("after", 1)
        replies = pipe.execute(raise_on_error=False)
        expect(isinstance(replies[1], redis.ResponseError), True)
        expect((r.get("text"), r.get("after")), (b"abc", b"1"))
        # One that cannot be queued undoes all of them.
        pipe.set("a", "undone").execute_command("GET")
        with refused("wrong number of arguments"):
            pipe.execute()
        expect(r.get("a"), b"2")
        # A watched key that changes.
        pipe.watch("a")
        seen = int(pipe.get("a"))
        r.incr("a")
        pipe.multi()
        pipe.set("a", seen + 100)
        with refused("", redis.WatchError):
            pipe.execute()
        expect(r.get("a"), b"3")

    r.mset({"account:a": 1000, "account:b": 1000})

    def move(pipe):
        a, b = int(pipe.get("account:a")), int(pipe.get("account:b"))
        pipe.multi()
        pipe.mset({"account:a": a - 1, "account:b": b + 1})

    def mover():
        with open_client() as client:
            for _ in range(25):
                client.transaction(move, "account:a", "account:b")

    in_threads(8, mover)
    expect(r.mget("account:a", "account:b"), [b"800", b"1200"])


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            differ("it did not come true within 30 s")
            return
        time.sleep(0.02)


def in_threads(count, work):
    problems = []

    def guarded():
        try:
            work()
        except Exception as problem:  # noqa: BLE001 (whatever it is, it is told)
            problems.append(problem)

    running = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    expect(problems, [])


def threads(r, open_client):
    def count():
        with open_client() as client:
            for _ in range(200):
                client.incr("threads")

    in_threads(8, count)
    expect(r.get("threads"), b"1600")


def clients(r, open_client):
    with open_client(single_connection_client=True) as one:
        expect(one.client_setname("pug"), True)
        expect(text(one.client_getname()), "pug")
        expect(one.client_id() > 0, True)
        info = one.client_info()
        expect((info["name"], info["db"]), ("pug", "0"), ("pug", 0))
        expect([client["name"] for client in r.client_list(client_id=[one.client_id()])], ["pug"])
        expect("pug" in [client["name"] for client in r.client_list(_type="normal")], True)
        expect(one.client_no_evict("ON") in (True, b"OK", "OK"), True)
        if r.info("server")["redis_version"] >= "7.2":
            expect(one.client_no_touch("ON") in (True, b"OK", "OK"), True)
            expect(one.client_setinfo("LIB-NAME", "test"), True)
            expect(one.client_info()["lib-name"], "test")
        with refused("cannot contain spaces"):
            one.client_setname("a b")
        expect(r.client_kill_filter(_id=str(one.client_id())), 1)
        with refused("", redis.ConnectionError):
            one.ping()
    expect(r.client_unblock(1), False)
    with refused("No such client"):
        r.client_kill("127.0.0.1:1")
    expect(r.client_pause(50, all=False), True)
    expect(r.get("missing"), None)
    began = time.monotonic()
    r.set("key", "after the pause")
    expect(0.02 < time.monotonic() - began < 10, True)
    # A pause of everything would hold up the end of it too.
    expect(r.client_pause(60_000, all=False), True)
    expect(r.client_unpause() in (True, b"OK", "OK"), True)
    expect(r.set("key", "value"), True)
    expect(r.client_pause(50), True)
    expect(r.ping(), True)


def settings(r, _):
    expect(r.config_get("databases"), {"databases": "16"})
    expect(set(r.config_get("save", "appendonly")), {"save", "appendonly"})
    expect(r.config_get("no-such-setting"), {})
    expect(r.config_set("slowlog-log-slower-than", 0), True)
    expect(r.config_get("slowlog-log-slower-than"), {"slowlog-log-slower-than": "0"})
    expect(r.slowlog_reset(), True)
    r.set("key", "secret")
    slow = r.slowlog_get(1)[0]
    expect(r.slowlog_len() >= 1, True)
    expect({"id", "start_time", "duration", "command"} <= set(slow), True)
    expect(abs(slow["start_time"] - time.time()) < 60, True)
    if SERVER == "pugdb":
        # Lengths stand in place of what was sent.
        expect("secret" in repr(r.slowlog_get(-1)), False)
        expect(any(b"(6 bytes)" in entry["command"] for entry in r.slowlog_get(-1)), True)
    expect(r.config_set("slowlog-log-slower-than", 10_000), True)
    expect(r.slowlog_reset(), True)
    expect(r.slowlog_get(), [])
    with refused("Unknown option"):
        r.config_set("no-such-setting", 1)
    expect(r.config_set("timeout", 0, "maxclients", 5000), True)
    expect(r.config_get("maxclients"), {"maxclients": "5000"})
    # One that is refused leaves the others as they were.
    with refused("maxclients"):
        r.config_set("timeout", 1, "maxclients", "x")
    expect(r.config_get("timeout"), {"timeout": "0"})
    expect(r.config_resetstat(), True)
    if SERVER == "pugdb":
        # There is no file that it would write.
        with refused(""):
            r.config_rewrite()
    expect(r.latency_reset() >= 0, True)
    expect(r.latency_latest(), [])
    expect(r.latency_history("command"), [])
    r.set("key", "value")
    histogram = r.execute_command("LATENCY HISTOGRAM", "set")
    expect([text(name) for name in histogram][:1], ["set"])


def information(r, open_client):
    info = r.info()
    expect(str(info["redis_version"]).startswith("7.2." if SERVER == "pugdb" else "7."), True)
    if SERVER == "pugdb":
        expect("pugdb_version" in info, True)
    for field in ("tcp_port", "process_id", "uptime_in_seconds", "connected_clients", "used_memory", "maxmemory",
                  "total_connections_received", "total_commands_processed", "keyspace_hits",
                  "keyspace_misses", "connected_slaves", "used_cpu_sys", "used_cpu_user", "total_error_replies"):
        expect(type(info.get(field)), int, float)
    expect((info["role"], info["tcp_port"]), ("master", r.connection_pool.connection_kwargs["port"]))
    with open_client(db=9) as nine:
        nine.set("a", 1, ex=100)
        # The figure may be a recent one: counting a large database again and again would cost too much.
        wait_for(lambda: r.info("keyspace").get("db9", {}).get("keys") == 1)
    r.set("a", 1)
    r.config_resetstat()
    for _ in range(5):
        r.get("a")
    r.get("missing")
    with refused("wrong number"):
        r.execute_command("GET")
    stats = r.info("commandstats")["cmdstat_get"]
    expect((stats["calls"], stats["rejected_calls"], stats["failed_calls"]), (6, 1, 0))
    expect(r.info("errorstats")["errorstat_ERR"]["count"], 1)
    hits = r.info("stats")
    expect((hits["keyspace_hits"], hits["keyspace_misses"]), (5, 1))
    everything = r.info("everything")
    expect(everything["used_memory_rss"] > MIB, True)
    expect((everything["cluster_enabled"], everything["role"]), (0, "master"))
    before = r.info("clients")["connected_clients"]
    with open_client() as more:
        more.ping()
        expect(r.info("clients")["connected_clients"], before + 1)
    with refused("unknown command"):
        r.execute_command("NOTHING", "secret")


def described(r, _):
    commands = r.command()
    expect(commands["get"]["arity"], 2)
    expect(commands["mset"]["step_count"], 2)
    expect(set(texts(commands["get"]["flags"])), {"readonly", "fast"})
    expect(r.command_count(), len(commands))
    expect(set(texts(r.command_list())) >= set(commands), True)
    expect(set(texts(r.command_list(category="bitmap"))), {
        "bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos", "getbit", "setbit"})
    expect(set(texts(r.command_list(pattern="getr*"))), {"getrange"})
    expect(texts(r.command_getkeys("MSET", "a", 1, "b", 2)), ["a", "b"])
    docs = r.execute_command("COMMAND DOCS", *commands)
    if isinstance(docs, list):
        docs = dict(zip(docs[::2], docs[1::2]))
    expect(set(map(text, docs)), set(commands))


def durability(r, _):
    r.set("key", "value")
    expect(r.save(), True)
    expect(abs(r.lastsave().timestamp() - time.time()) < 60, True)
    expect(r.bgsave(), True, b"Background saving started")
    expect(r.wait(0, 100), 0)
    began = time.monotonic()
    expect(r.wait(1, 50), 0)
    expect(0.02 < time.monotonic() - began < 10, True)
    expect(text(r.role()[0]), "master")
    began = time.monotonic()
    expect(text(r.execute_command("DEBUG SLEEP", "0.05")), "OK")
    expect(0.04 < time.monotonic() - began < 10, True)


def come_later(r, open_client):
    """What is not there yet says so in one sentence, which the library passes on."""
    if SERVER != "pugdb":
        return
    sentence = "this command is not in this version of PugDB"
    for call in (
        lambda: r.eval("return 1", 0),
        lambda: r.register_script("return 1")(),
        lambda: r.script_load("return 1"),
        lambda: r.function_list(),
        lambda: r.fcall("f", 0),
        lambda: r.publish("channel", "message"),
        lambda: r.lpush("list", 1),
        lambda: r.hset("hash", "field", 1),
        lambda: r.sadd("set", 1),
        lambda: r.zadd("zset", {"a": 1}),
        lambda: r.xadd("stream", {"a": 1}),
        lambda: r.pfadd("hll", 1),
        lambda: r.geoadd("geo", (1, 1, "a")),
        lambda: r.sort("list"),
    ):
        with refused(sentence):
            call()
    with open_client() as client, client.pubsub() as pubsub, refused(sentence):
        pubsub.subscribe("channel")
        pubsub.get_message(timeout=10)
    # A lock of the library needs a script, and says why it cannot be released.
    lock = r.lock("lock", timeout=10)
    expect(lock.acquire(blocking=False), True)
    expect(lock.acquire(blocking=False), False)
    with refused(sentence):
        lock.release()


FAMILIES = (connections, strings, any_bytes, expiry, keys, scanning, bits, serialised, pipelines, transactions, threads,
            clients, settings, information, described, durability, come_later)


def run_families(address, families, protocol):
    def open_client(**options):
        # An error must not be hidden by a second try.
        defaults = {"protocol": protocol, "socket_timeout": 60, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis(**address, **defaults | options)

    for family in families:
        with open_client() as r:
            r.flushall()
            guarded(family, r, open_client)
    with open_client() as r:
        r.flushall()


def guarded(family, *arguments):
    try:
        family(*arguments)
    except Exception:  # noqa: BLE001 (the family ends here; what it was is told)
        differences.append(f"{family.__name__} ended early: {traceback.format_exc(limit=-3)}")


# Below the library: bytes on a socket.


def raw_bytes(host, port):
    def talk(data, *expected):
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: connection.recv(65536), b""))
        expect(got, *expected)

    talk(b"PING\r\n", b"+PONG\r\n")
    talk(b"\r\nPING\n\r\nPING hello\r\n", b"+PONG\r\n$5\r\nhello\r\n")
    talk(b'SET raw "two words\\x00"\r\nGET raw\r\nDEL raw\r\n', b"+OK\r\n$10\r\ntwo words\x00\r\n:1\r\n")
    talk(b"SET raw 'single'\r\nGETDEL raw\r\n", b"+OK\r\n$6\r\nsingle\r\n")
    talk(b'SET raw "open\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n")
    talk(b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n")
    talk(b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n")
    talk(b"*99999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n")
    talk(b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
    talk(b"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n", b"+OK\r\n+PONG\r\n")
    talk(b"CLIENT REPLY SKIP\r\nPING one\r\nPING two\r\n", b"$3\r\ntwo\r\n")
    talk(b"QUIT\r\nPING\r\n", b"+OK\r\n")
    # What a browser can be made to send does nothing.
    talk(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET raw 1\r\n", b"")
    talk(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"", b"-ERR wrong number of arguments for 'get' command\r\n")
    talk(b"EXISTS raw\r\n", b":0\r\n")


def unix_socket(path):
    with redis.Redis(unix_socket_path=path, socket_timeout=60) as r:
        expect(r.ping(), True)
        expect(r.set("unix", b"x" * MIB), True)
        expect(len(r.get("unix")), MIB)
        client = r.client_info()
        expect((client["addr"], client["flags"]), (f"{path}:0", "U"))
        expect(r.flushall(), True)


# SHUTDOWN, on servers of its own.


def shutdowns(binary):
    with tempfile.TemporaryDirectory() as folder:
        for number, call in enumerate((
            lambda r: r.shutdown(),
            lambda r: r.shutdown(save=True),
            lambda r: r.shutdown(nosave=True),
            lambda r: r.execute_command("SHUTDOWN", "NOW"),
        )):
            server, port = start(binary, folder)
            try:
                with redis.Redis(port=port, socket_timeout=30, retry=Retry(NoBackoff(), 0)) as r:
                    expect(r.get("number"), None if number == 0 else str(number - 1).encode())
                    r.set("number", number)
                    with contextlib.suppress(redis.ConnectionError):
                        call(r)
                expect(server.wait(timeout=30), 0)
            finally:
                if server.poll() is None:
                    server.kill()
                    server.wait()


def start(binary, folder):
    command = [binary, "serve", "--data", f"{folder}/data", "--resp", "127.0.0.1:0", "--no-http", "--no-encryption"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if line.startswith("ready on "):
            return server, int(line.partition(",")[0].rpartition(":")[2])
    raise RuntimeError("the server did not become ready")


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} HOST PORT (of a server whose data may be lost)")
    host, port = sys.argv[1], int(sys.argv[2])
    address = {"host": host, "port": port}
    with redis.Redis(**address) as r:
        version = tuple(int(part) for part in str(r.info("server")["redis_version"]).split("."))
    for protocol in (2, 3):
        runner = Runner(host, port, protocol, SERVER, version)
        runner.run_all(update="UPDATE_EXPECT" in os.environ)
        differences.extend(f"RESP{protocol} {difference}" for difference in runner.differences)
        before = len(differences)
        run_families(address, FAMILIES, protocol)
        differences[before:] = [f"RESP{protocol} {difference}" for difference in differences[before:]]
        print(f"redis_py.py: redis-py {redis.__version__}, RESP{protocol}: {runner.count} cases, {len(FAMILIES)} families")
    guarded(raw_bytes, host, port)
    if path := os.environ.get("UNIX_SOCKET"):
        guarded(unix_socket, path)
    else:
        print("redis_py.py: UNIX_SOCKET is not set: the unix socket is left out")
    if SERVER == "pugdb":
        guarded(shutdowns, os.environ["PUGDB"])
    for difference in differences:
        print(difference)
    if differences:
        sys.exit(f"redis_py.py: {len(differences)} differences")


if __name__ == "__main__":
    main()
