#!/usr/bin/env python3
"""redis-py as a client: every command in RESP2 and RESP3, pipelines, binary data, several threads.

Usage: redis_py.py HOST PORT. The server's databases are emptied: give it a server of its own.
"""

import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def expect(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {got!r}")


def expect_error(what, text, call, *arguments, **options):
    try:
        got = call(*arguments, **options)
    except redis.RedisError as error:
        if text not in str(error):
            raise AssertionError(f"{what}: expected an error with {text!r}, got {str(error)!r}") from error
        return
    raise AssertionError(f"{what}: expected an error with {text!r}, got {got!r}")


def connection(r, protocol):
    expect("ping", r.ping(), True)
    expect("echo", r.echo("hello"), b"hello")
    expect("reset", r.execute_command("RESET") in (b"RESET", "RESET"), True)
    hello = r.execute_command("HELLO", protocol)
    if isinstance(hello, list):
        hello = dict(zip(hello[::2], hello[1::2]))
    expect("hello", hello[b"proto"], protocol)
    expect_error("auth", "without any password", r.execute_command, "AUTH", "secret")
    expect_error("hello auth", "without any password", r.execute_command, "HELLO", "3", "AUTH", "default", "x")
    expect_error("select", "out of range", r.execute_command, "SELECT", "16")


def strings(r):
    expect("set", r.set("key", "value"), True)
    expect("get", r.get("key"), b"value")
    expect("get missing", r.get("missing"), None)
    expect("set nx", r.set("key", "other", nx=True), None)
    expect("set xx", r.set("missing", "other", xx=True), None)
    expect("set get", r.set("key", "other", get=True), b"value")
    expect("set ex", r.set("key", "value", ex=100), True)
    expect("ttl", r.ttl("key"), 100)
    expect("set keepttl", r.set("key", "value", keepttl=True), True)
    expect("ttl", r.ttl("key") > 90, True)
    expect("set px", r.set("key", "value", px=100_000), True)
    expect("set exat", r.set("key", "value", exat=int(time.time()) + 1000), True)
    expect("set pxat", r.set("key", "value", pxat=int(time.time() * 1000) + 1_000_000), True)
    expect("pttl", 900_000 < r.pttl("key") <= 1_000_000, True)
    expect("mset", r.mset({"a": 1, "b": 2}), True)
    expect("mget", r.mget("a", "missing", "b"), [b"1", None, b"2"])
    expect("incr", r.incr("n"), 1)
    expect("incrby", r.incrby("n", 10), 11)
    expect("decr", r.decr("n"), 10)
    expect("decrby", r.decrby("n", 20), -10)
    expect_error("incr", "not an integer", r.incr, "key")
    r.set("n", 2**63 - 1)
    expect_error("incr", "overflow", r.incr, "n")
    every_byte = bytes(range(256)) * 1000
    expect("binary set", r.set(every_byte[:256], every_byte), True)
    expect("binary get", r.get(every_byte[:256]), every_byte)
    expect("empty", (r.set("empty", b""), r.get("empty")), (True, b""))
    large = b"x" * (10 << 20)
    expect("large", (r.set("large", large), r.get("large") == large), (True, True))


def keys(r):
    r.flushdb()
    r.mset({"a": 1, "b": 2, "c": 3})
    expect("exists", r.exists("a", "a", "missing"), 2)
    expect("type", r.type("a"), b"string")
    expect("type", r.type("missing"), b"none")
    expect("expire", r.expire("a", 100), True)
    expect("expire", r.expire("missing", 100), False)
    expect("expire nx", r.expire("a", 100, nx=True), False)
    expect("pexpire gt", r.pexpire("a", 200_000, gt=True), True)
    expect("ttl", r.ttl("a"), 200)
    expect("persist", r.persist("a"), True)
    expect("ttl", r.ttl("a"), -1)
    expect("ttl", r.ttl("missing"), -2)
    expect("expires", (r.set("short", 1, px=1), time.sleep(0.05), r.get("short")), (True, None, None))
    expect("dbsize", r.dbsize(), 3)
    expect("del", r.delete("a", "missing"), 1)
    expect("unlink", r.unlink("b", "missing"), 1)
    r.mset({f"scan:{number}": number for number in range(1000)})
    expect("scan", len(set(r.scan_iter(match="scan:*", count=37))), 1000)
    expect("scan type", len(list(r.scan_iter(count=500, _type="STRING"))), 1001)
    expect_error("scan", "invalid cursor", r.scan, cursor=1)
    expect("flushdb", r.flushdb(), True)
    expect("flushall", r.flushall(asynchronous=True), True)
    expect("dbsize", r.dbsize(), 0)


def server(r):
    info = r.info()
    expect("info", info["redis_version"], "7.2.0")
    r.set("a", 1, ex=100)
    expect("info keyspace", r.info("keyspace")["db0"]["keys"], 1)
    expect("config get", r.config_get("databases"), {"databases": "16"})
    expect("config get", r.config_get("save", "appendonly"), {"save": "", "appendonly": "yes"})
    expect("config resetstat", r.config_resetstat(), True)
    expect_error("config set", "cannot be changed", r.config_set, "maxmemory", 1)
    expect("command count", r.command_count() > 20, True)
    expect("command", "get" in r.command(), True)
    expect("command list", b"get" in r.command_list(), True)
    # redis-py decodes this in RESP2 only.
    expect("command getkeys", r.command_getkeys("MSET", "a", 1, "b", 2) in (["a", "b"], [b"a", b"b"]), True)
    expect("command docs", b"get" in r.execute_command("COMMAND DOCS", "get"), True)
    expect("command info", len(r.execute_command("COMMAND INFO", "get")), 1)
    expect_error("unknown", "unknown command", r.execute_command, "NOTHING", "secret")
    with redis.Redis(connection_pool=r.connection_pool, single_connection_client=True) as one:
        expect("client setname", one.client_setname("pug"), True)
        expect("client getname", one.client_getname() in ("pug", b"pug"), True)
        expect("client id", one.client_id() > 0, True)
        expect("client info", one.client_info()["name"], "pug")
        expect("client list", any(client["name"] == "pug" for client in one.client_list()), True)
        expect("client setinfo", one.client_setinfo("LIB-NAME", "test"), True)
        expect("client no-evict", one.client_no_evict("ON") in (True, b"OK", "OK"), True)
        expect("client no-touch", one.client_no_touch("ON") in (True, b"OK", "OK"), True)
        one.client_setname("")


def administration(r, host, port, protocol):
    expect("config set", r.config_set("slowlog-log-slower-than", 0), True)
    r.set("secret-key", "secret-value")
    entries = r.slowlog_get(-1)
    expect("config set", r.config_set("slowlog-log-slower-than", 10_000), True)
    expect("slowlog get", b"secret" in repr(entries).encode(), False)
    expect("slowlog get", any(b"(12 bytes)" in entry["command"] for entry in entries), True)
    expect("slowlog len", r.slowlog_len() > 0, True)
    expect("slowlog reset", r.slowlog_reset(), True)
    expect("config set several", r.config_set("timeout", 0, "maxclients", 5000), True)
    expect("config get", r.config_get("maxclients"), {"maxclients": "5000"})
    expect_error("config set", "possibly related to argument 'maxclients'", r.config_set, "timeout", 1, "maxclients", "x")
    expect("config get", r.config_get("timeout"), {"timeout": "0"})
    expect("time", abs(r.time()[0] - time.time()) < 60, True)
    expect("save", r.save(), True)
    expect("lastsave", abs(r.lastsave().timestamp() - time.time()) < 60, True)
    expect("role", r.role()[0] in (b"master", "master"), True)
    expect("wait", r.wait(1, 10), 0)
    expect("acl whoami", r.acl_whoami() in ("default", b"default"), True)
    expect("latency histogram", len(r.execute_command("LATENCY HISTOGRAM", "set")) > 0, True)
    expect("latency latest", r.execute_command("LATENCY LATEST"), [])
    everything = r.info("everything")
    expect("info commandstats", everything["cmdstat_set"]["calls"] > 0, True)
    expect("info errorstats", everything["errorstat_ERR"]["count"] > 0, True)
    expect("info memory", everything["used_memory_rss"] > 1 << 20, True)
    expect("info sections", r.info("cpu", "cluster")["cluster_enabled"], 0)

    with redis.Redis(host=host, port=port, protocol=protocol) as victim:
        number = victim.client_id()
        victim.client_setname("victim")
        expect("client list", r.client_list(client_id=[number])[0]["name"], "victim")
        expect("client kill", r.client_kill_filter(_id=number), 1)
        expect("client list", r.client_list(client_id=[number]), [])
    expect_error("client kill", "No such client", r.client_kill, "127.0.0.1:1")

    expect("client pause", r.client_pause(200, all=False), True)
    began = time.monotonic()
    expect("a read passes", r.get("missing"), None)
    expect("a write waits", (r.set("key", 1), time.monotonic() - began > 0.15), (True, True))
    expect("client unpause", r.client_unpause() in (True, b"OK", "OK"), True)
    expect("client unblock", r.client_unblock(1), False)
    began = time.monotonic()
    expect("debug sleep", r.execute_command("DEBUG SLEEP", "0.1") in (True, b"OK", "OK"), True)
    expect("debug sleep", time.monotonic() - began > 0.09, True)


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.set(f"pipe:{number}", number)
            pipe.get(f"pipe:{number}")
        replies = pipe.execute()
    expect("pipeline", replies[1::2], [str(number).encode() for number in range(10_000)])
    with r.pipeline(transaction=False) as pipe:
        pipe.set("text", "abc").incr("text").get("text")
        replies = pipe.execute(raise_on_error=False)
    expect("pipeline error", isinstance(replies[1], redis.ResponseError), True)
    expect("pipeline goes on", replies[2], b"abc")


def threads(host, port, protocol):
    def count():
        with redis.Redis(host=host, port=port, protocol=protocol) as r:
            for _ in range(200):
                r.incr("threads")

    running = [threading.Thread(target=count) for _ in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    with redis.Redis(host=host, port=port, protocol=protocol) as r:
        expect("threads", r.get("threads"), b"1600")


def databases(host, port, protocol):
    with redis.Redis(host=host, port=port, db=5, protocol=protocol) as five:
        five.set("only", "here")
        with redis.Redis(host=host, port=port, db=0, protocol=protocol) as zero:
            expect("databases", zero.get("only"), None)
        expect("databases", five.get("only"), b"here")
        five.flushdb()


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} HOST PORT (of a server whose data may be lost)")
    host, port = sys.argv[1], int(sys.argv[2])
    for protocol in (2, 3):
        # An error must not be hidden by a second try.
        once = Retry(NoBackoff(), 0)
        with redis.Redis(host=host, port=port, protocol=protocol, socket_timeout=60, retry=once) as r:
            r.flushall()
            connection(r, protocol)
            strings(r)
            keys(r)
            server(r)
            administration(r, host, port, protocol)
            pipelines(r)
            threads(host, port, protocol)
            databases(host, port, protocol)
            r.flushall()
        print(f"redis_py.py: redis-py {redis.__version__}, RESP{protocol}: all as expected")


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, redis.RedisError) as problem:
        sys.exit(f"redis_py.py: {problem}")
