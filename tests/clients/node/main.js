// ioredis as a client, in RESP2 and RESP3: all of cases/, and what the library makes of each command.
//
// Usage: node main.js HOST PORT, as ../ioredis.sh does. UNIX_SOCKET and AGAINST are those of ../redis_py.py.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const Redis = require("ioredis");
const { Runner, wait } = require("./cases.js");

const SERVER = process.env.AGAINST ?? "pugdb";
const SENTENCE = /^ERR this command is not in this version of PugDB/;
const differences = [];

function expect(got, ...expected) {
  if (expected.some((one) => same(got, one))) return;
  differ(`expected ${expected.map(shorten).join(" or ")}, got ${shorten(got)}`);
}

function same(got, expected) {
  try {
    assert.deepStrictEqual(got, expected);
    return true;
  } catch {
    return false;
  }
}

async function refused(promise, pattern) {
  const error = await promise.then(() => null, (problem) => problem);
  if (!error || !pattern.test(error.message)) differ(`expected an error like ${pattern}, got ${shorten(error?.message)}`);
}

function differ(what) {
  const line = new Error().stack.split("\n").find((frame, index) => index > 2 && frame.includes("main.js"));
  differences.push(`${line?.trim()}\n    ${what}`);
}

function shorten(value) {
  const text = value instanceof Error ? value.message : (JSON.stringify(value) ?? String(value));
  return text.length < 1000 ? text : `${text.slice(0, 1000)}… (${text.length} characters)`;
}

const within = (low, value, high) => expect(low <= value && value <= high, true);
const seconds = () => Math.floor(Date.now() / 1000);

// What the library makes of each command, a function a family. `open(options)` makes one more client.

async function connections(r, open) {
  expect(await r.ping(), "PONG");
  expect(await r.ping("hello"), "hello");
  expect(await r.echo("hello"), "hello");
  const five = open({ db: 5, connectionName: "pug" });
  expect(await five.client("GETNAME"), "pug");
  await five.set("only", "here");
  expect(await r.get("only"), null);
  expect(await r.select(5), "OK");
  expect(await r.get("only"), "here");
  await refused(r.select(16), /^ERR DB index is out of range/);
  expect(await r.select(0), "OK");
  await refused(r.auth("secret"), /^ERR AUTH <password> called without any password/);
  await refused(r.auth("nobody", "secret"), /^(WRONGPASS|ERR) /);
  expect(await r.acl("WHOAMI"), "default");
  const [second, microsecond] = await r.time();
  within(seconds() - 60, Number(second), seconds() + 60);
  within(0, Number(microsecond), 999_999);
  expect(await five.quit(), "OK");
}

async function strings(r) {
  expect(await r.set("key", "value"), "OK");
  expect(await r.get("key"), "value");
  expect(await r.get("missing"), null);
  expect(await r.set("key", "other", "NX"), null);
  expect(await r.set("missing", "other", "XX"), null);
  expect(await r.set("key", "other", "GET"), "value");
  expect(await r.set("key", "value", "EX", 100), "OK");
  expect(await r.set("key", "value", "KEEPTTL"), "OK");
  within(99, await r.ttl("key"), 100);
  expect(await r.set("key", "value", "PX", 100_000, "XX"), "OK");
  expect(await r.set("key", "value", "EXAT", seconds() + 1000), "OK");
  expect(await r.set("key", "value", "PXAT", Date.now() + 1_000_000), "OK");
  within(999_000, await r.pttl("key"), 1_000_000);
  expect(await r.setnx("key", 1), 0);
  expect(await r.setex("setex", 100, "value"), "OK");
  expect(await r.psetex("psetex", 100_000, "value"), "OK");
  await refused(r.setex("setex", 0, "value"), /^ERR invalid expire time in 'setex' command/);
  expect(await r.getset("key", "new"), "value");
  expect(await r.getex("key", "EX", 100), "new");
  expect(await r.getex("key", "PERSIST"), "new");
  expect(await r.getdel("key"), "new");
  expect(await r.getdel("key"), null);
  expect(await r.append("key", "Hello"), 5);
  expect(await r.append("key", " World"), 11);
  expect(await r.strlen("key"), 11);
  expect(await r.getrange("key", -5, -1), "World");
  expect(await r.substr("key", 0, 4), "Hello");
  expect(await r.setrange("key", 6, "Redis"), 11);
  expect(await r.mset({ a: 1, b: 2 }), "OK");
  expect(await r.mset(new Map([["c", "3"]])), "OK");
  expect(await r.mget("a", "missing", "b"), ["1", null, "2"]);
  expect(await r.msetnx("a", 1, "z", 2), 0);
  expect(await r.incr("n"), 1);
  expect(await r.incrby("n", 10), 11);
  expect(await r.decr("n"), 10);
  expect(await r.decrby("n", 20), -10);
  expect(await r.incrbyfloat("float", 0.1), "0.1");
  expect(await r.incrbyfloat("float", 0.2), "0.3");
  await refused(r.incr("key"), /^ERR value is not an integer or out of range/);
  await r.set("n", "9223372036854775807");
  await refused(r.incr("n"), /^ERR increment or decrement would overflow/);
  await r.mset("key1", "ohmytext", "key2", "mynewtext");
  expect(await r.lcs("key1", "key2"), "mytext");
  expect(await r.lcs("key1", "key2", "LEN"), 6);
  expect(await r.lcs("key1", "key2", "IDX", "MINMATCHLEN", 4, "WITHMATCHLEN"), ["matches", [[[4, 7], [5, 8], 4]], "len", 6]);
  expect(await r.set("grüße", "🐶"), "OK");
  expect(await r.get("grüße"), "🐶");
  expect(await r.strlen("grüße"), 4);
}

async function anyBytes(r) {
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  expect(await r.set(everyByte, Buffer.concat(Array(1000).fill(everyByte))), "OK");
  expect((await r.getBuffer(everyByte)).length, 256_000);
  expect(await r.keysBuffer("*"), [everyByte]);
  expect(await r.getrangeBuffer(everyByte, 255, 256), Buffer.from([255, 0]));
  for (const size of [512 << 10, 64 << 20]) {
    const value = crypto.randomBytes(size);
    expect(await r.set("large", value), "OK");
    expect(await r.strlen("large"), size);
    expect(value.equals(await r.getBuffer("large")), true);
    expect(await r.append("large", "tail"), size + 4);
    expect(await r.getrange("large", size, -1), "tail");
    const [large, missing] = await r.mgetBuffer("large", "missing");
    expect(large.length, size + 4);
    expect(missing, null);
    expect(await r.del("large"), 1);
  }
}

async function expiry(r) {
  await r.set("key", "value");
  expect(await r.expire("key", 100), 1);
  expect(await r.expire("missing", 100), 0);
  expect(await r.expire("key", 100, "NX"), 0);
  expect(await r.expire("key", 200, "XX"), 1);
  expect(await r.pexpire("key", 300_000, "GT"), 1);
  expect(await r.pexpire("key", 400_000, "LT"), 0);
  expect(await r.ttl("key"), 300);
  within(299_000, await r.pttl("key"), 300_000);
  expect(await r.expireat("key", 33_177_117_420), 1);
  expect(await r.expiretime("key"), 33_177_117_420);
  expect(await r.pexpireat("key", 33_177_117_420_123), 1);
  expect(await r.pexpiretime("key"), 33_177_117_420_123);
  await refused(r.call("EXPIRE", "key", 100, "GT", "LT"), /^ERR GT and LT options at the same time/);
  expect(await r.persist("key"), 1);
  expect(await r.persist("key"), 0);
  expect([await r.ttl("key"), await r.ttl("missing"), await r.expiretime("missing")], [-1, -2, -2]);
  await r.set("short", 1, "PX", 1);
  await wait(20);
  expect([await r.get("short"), await r.exists("short"), await r.keys("short")], [null, 0, []]);
}

async function keys(r, open) {
  await r.mset({ a: 1, b: 2, c: 3 });
  expect(await r.exists("a", "a", "missing"), 2);
  expect(await r.touch("a", "missing"), 1);
  expect([await r.type("a"), await r.type("missing")], ["string", "none"]);
  expect(await r.rename("a", "x"), "OK");
  await refused(r.rename("a", "x"), /^ERR no such key/);
  expect([await r.renamenx("x", "b"), await r.renamenx("x", "a")], [0, 1]);
  expect([await r.copy("a", "a2"), await r.copy("a", "a2"), await r.copy("a", "b", "REPLACE")], [1, 0, 1]);
  expect(await r.copy("a", "a", "DB", 7), 1);
  const seven = open({ db: 7 });
  expect([await seven.get("a"), await seven.move("a", 0)], ["1", 0]);
  expect([await r.del("a"), await seven.move("a", 0), await seven.dbsize()], [1, 1, 0]);
  await seven.set("seven", 7);
  expect(await r.swapdb(0, 7), "OK");
  expect([await seven.get("a"), await r.get("seven"), await r.dbsize()], ["1", "7", 1]);
  expect(await r.swapdb(0, 7), "OK");
  seven.disconnect();
  expect((await r.keys("*")).includes(await r.randomkey()), true);
  expect((await r.keys("[ab]*")).sort(), ["a", "a2", "b"]);
  expect(await r.object("ENCODING", "c"), "int");
  within(1, await r.memory("USAGE", "c"), 10_000);
  expect([await r.unlink("b", "missing"), await r.del(["a", "a2"])], [1, 2]);
  expect([await r.flushdb("ASYNC"), await r.flushall("SYNC"), await r.dbsize()], ["OK", "OK", 0]);
}

async function scanning(r) {
  const stays = Array.from({ length: 3000 }, (_, number) => `stays:${number}`);
  await r.mset(...stays.flatMap((key) => [key, 1]));
  const seen = new Set();
  for await (const some of r.scanStream({ match: "stays:*", count: 37 })) {
    some.forEach((key) => seen.add(key));
    await r.mset(`comes:${seen.size}`, 1, `stays!${seen.size}`, 1);
  }
  expect([...seen].sort(), stays.sort());
  let strings = 0;
  for await (const some of r.scanStream({ type: "string", count: 1000 })) strings += some.length;
  within(3000, strings, 100_000);
  for await (const some of r.scanBufferStream({ type: "hash", count: 10_000 })) expect(some, []);
  const [cursor, some] = await r.scan(0, "COUNT", 10);
  expect(/^[1-9][0-9]*$/.test(cursor), true);
  within(1, some.length, 2999);
  await refused(r.scan(0, "COUNT", 0), /^ERR syntax error/);
  await refused(r.scan("text"), /^ERR invalid cursor/);
}

async function bits(r) {
  await r.set("key", "foobar");
  expect([await r.bitcount("key"), await r.bitcount("key", 1, 1), await r.bitcount("key", 5, 30, "BIT")], [26, 6, 17]);
  expect([await r.getbit("key", 1), await r.setbit("key", 7, 1), await r.setbit("key", 7, 0)], [1, 0, 1]);
  await r.set("key", Buffer.from([255, 240, 0]));
  expect([await r.bitpos("key", 0), await r.bitpos("key", 1, 1, -1)], [12, 8]);
  await r.mset({ key1: "foobar", key2: "abcdef" });
  expect([await r.bitop("AND", "dest", "key1", "key2"), await r.get("dest")], [6, "`bc`ab"]);
  await refused(r.bitop("NOT", "dest", "key1", "key2"), /^ERR BITOP NOT must be called with a single source key/);
  expect(await r.bitfield("f", "OVERFLOW", "SAT", "SET", "u8", 0, 250, "INCRBY", "u8", 0, 100, "GET", "u4", "#0"), [0, 255, 15]);
  expect(await r.bitfield("f", "OVERFLOW", "FAIL", "INCRBY", "u8", 0, 1), [null]);
  expect(await r.bitfield_ro("f", "GET", "u8", 0, "GET", "i8", 0), [255, -1]);
}

async function serialised(r) {
  for (const value of ["", "12", "-70000", "5000000000", "007", crypto.randomBytes(300), "ab".repeat(5000)]) {
    await r.set("key", value, "EX", 100);
    const dumped = await r.dumpBuffer("key");
    expect(await r.restore("copy", 0, dumped, "REPLACE"), "OK");
    expect(await r.getBuffer("copy"), Buffer.from(value));
    await refused(r.restore("copy", 0, dumped), /^BUSYKEY Target key name already exists/);
    dumped[dumped.length - 1] ^= 1;
    await refused(r.restore("bad", 0, dumped), /^ERR DUMP payload version or checksum are wrong/);
  }
  expect(await r.dumpBuffer("missing"), null);
}

async function pipelines(r, open) {
  const pipe = r.pipeline();
  for (let number = 0; number < 10_000; number++) pipe.set(`pipe:${number}`, number).get(`pipe:${number}`);
  const replies = await pipe.exec();
  expect(replies.every(([error]) => error === null), true);
  expect(replies.filter((_, index) => index % 2).every(([, value], number) => value === String(number)), true);
  const [, [error], [, after]] = await r.pipeline().set("text", "abc").incr("text").get("text").exec();
  expect(error?.message, "ERR value is not an integer or out of range");
  expect(after, "abc");
  const automatic = open({ enableAutoPipelining: true });
  const numbers = await Promise.all(Array.from({ length: 1000 }, () => automatic.incr("automatic")));
  expect(numbers.sort((a, b) => a - b), Array.from({ length: 1000 }, (_, index) => index + 1));
}

async function transactions(r, open) {
  expect(await r.multi().set("a", 1).incr("a").get("a").exec(), [[null, "OK"], [null, 2], [null, "2"]]);
  // One that fails while it runs keeps the others' effects.
  const [first, second, third] = await r.multi().set("text", "abc").incr("text").set("after", 1).exec();
  expect([first, second[0]?.message, third], [[null, "OK"], "ERR value is not an integer or out of range", [null, "OK"]]);
  expect(await r.mget("text", "after"), ["abc", "1"]);
  // One that cannot be queued undoes all of them.
  await refused(r.multi().set("a", "undone").call("GET").exec(), /^EXECABORT Transaction discarded/);
  expect(await r.get("a"), "2");
  // Without a pipeline, each command is queued by itself.
  await r.multi({ pipeline: false });
  expect(await r.set("a", 5), "QUEUED");
  expect(await r.discard(), "OK");
  await r.multi({ pipeline: false });
  expect(await r.incr("a"), "QUEUED");
  expect(await r.exec(), [[null, 3]]);
  // A watched key that changes.
  await r.watch("a");
  const other = open();
  await other.incr("a");
  expect(await r.multi().set("a", "undone").exec(), null);
  expect(await r.watch("a"), "OK");
  await other.incr("a");
  expect(await r.unwatch(), "OK");
  expect(await r.multi().get("a").exec(), [[null, "5"]]);

  await r.mset({ "account:a": 1000, "account:b": 1000 });
  await Promise.all(Array.from({ length: 8 }, () => mover(open())));
  expect(await r.mget("account:a", "account:b"), ["800", "1200"]);
}

async function mover(client) {
  for (let moved = 0; moved < 25; ) {
    await client.watch("account:a", "account:b");
    const [a, b] = await client.mget("account:a", "account:b");
    if (await client.multi().set("account:a", Number(a) - 1).set("account:b", Number(b) + 1).exec()) moved++;
  }
}

async function clients(r, open) {
  const one = open();
  expect(await one.client("SETNAME", "pug"), "OK");
  const id = await one.client("ID");
  expect(/name=pug .*cmd=client\|info/.test(await one.client("INFO")), true);
  expect(/name=pug /.test(await r.client("LIST", "ID", id)), true);
  expect(await one.client("NO-EVICT", "ON"), "OK");
  await refused(one.client("SETNAME", "a b"), /^ERR Client names cannot contain spaces/);
  await refused(r.client("KILL", "127.0.0.1:1"), /^ERR No such client/);
  const closed = new Promise((resolve) => one.once("close", resolve));
  expect(await r.client("KILL", "ID", id), 1);
  await closed;
  expect(await r.client("PAUSE", 50, "WRITE"), "OK");
  const began = Date.now();
  expect(await r.set("key", "after the pause"), "OK");
  within(30, Date.now() - began, 10_000);
  expect(await r.client("UNPAUSE"), "OK");
}

async function serverItself(r, open) {
  const info = Object.fromEntries((await r.info()).split("\r\n").filter((line) => line.includes(":")).map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1)];
  }));
  expect(info.redis_version.startsWith(SERVER === "pugdb" ? "7.2." : "7."), true);
  expect(info.role, "master");
  const nine = open({ db: 9 });
  await nine.set("key", "value");
  // The figure may be a recent one: counting a large database again and again would cost too much.
  const deadline = Date.now() + 30_000;
  while (!/db9:keys=1,/.test(await r.info("keyspace")) && Date.now() < deadline) await wait(20);
  expect(Date.now() < deadline, true);
  expect(/cmdstat_set:calls=/.test(await r.info("commandstats")), true);
  expect(await r.config("GET", "databases"), ["databases", "16"]);
  expect(await r.config("SET", "slowlog-log-slower-than", 0), "OK");
  await r.set("key", "secret");
  const slow = await r.slowlog("GET", 10);
  expect(slow.length >= 2 && slow.every((entry) => entry.length === 6), true);
  if (SERVER === "pugdb") expect(JSON.stringify(slow).includes("secret"), false);
  expect(await r.config("SET", "slowlog-log-slower-than", 10_000), "OK");
  expect([await r.slowlog("RESET"), await r.slowlog("LEN"), await r.slowlog("GET")], ["OK", 0, []]);
  expect(await r.config("RESETSTAT"), "OK");
  within(80, await r.command("COUNT"), 1000);
  expect((await r.command("INFO", "get"))[0].slice(0, 6), ["get", 2, ["readonly", "fast"], 1, 1, 1]);
  expect(await r.command("GETKEYS", "MSET", "a", 1, "b", 2), ["a", "b"]);
  expect((await r.command("LIST")).includes("get"), true);
  expect((await r.command("DOCS", "get"))[0], "get");
  expect([await r.latency("LATEST"), await r.latency("HISTORY", "command")], [[], []]);
  expect(await r.save(), "OK");
  within(seconds() - 60, await r.lastsave(), seconds() + 60);
  expect(/^Background saving/.test(await r.bgsave()), true);
  expect([await r.wait(0, 100), await r.wait(1, 20)], [0, 0]);
  expect((await r.role())[0], "master");
  expect(await r.debug("SLEEP", 0), "OK");
  await refused(r.call("NOTHING", "secret"), /^ERR unknown command/);
  await refused(r.call("GET"), /^ERR wrong number of arguments for 'get' command/);
}

async function comeLater(r, open) {
  if (SERVER !== "pugdb") return;
  const client = open();
  client.defineCommand("scripted", { numberOfKeys: 1, lua: "return 1" });
  for (const call of [
    () => client.scripted("key"),
    () => r.eval("return 1", 0),
    () => r.script("LOAD", "return 1"),
    () => r.publish("channel", "message"),
    () => open().subscribe("channel"),
    () => open().psubscribe("*"),
    () => r.lpush("list", 1),
    () => r.hset("hash", { field: 1 }),
    () => r.sadd("set", 1),
    () => r.zadd("zset", 1, "a"),
    () => r.xadd("stream", "*", "a", 1),
  ]) await refused(call(), SENTENCE);
}

const FAMILIES = [connections, strings, anyBytes, expiry, keys, scanning, bits, serialised, pipelines, transactions, clients,
  serverItself, comeLater];

async function runFamilies(address, protocol, families = FAMILIES) {
  for (const family of families) {
    const opened = [];
    const open = (options) => {
      const client = connect({ ...address, protocol, ...options });
      opened.push(client);
      return client;
    };
    const before = differences.length;
    try {
      const r = open();
      await r.flushall();
      await family(r, open);
      await r.flushall();
    } catch (problem) {
      differences.push(`${family.name} ended early: ${problem.stack}`);
    }
    for (const client of opened) client.disconnect();
    for (let place = before; place < differences.length; place++) differences[place] = `RESP${protocol} ${differences[place]}`;
  }
}

// An error must not be hidden by a second try.
function connect(options) {
  const client = new Redis({ ...options, retryStrategy: null, maxRetriesPerRequest: 0, commandTimeout: 60_000 });
  client.on("error", () => {}); // Each command that it concerns is told.
  return client;
}

async function main() {
  const [host, port] = process.argv.slice(2);
  if (!port) throw new Error("usage: node main.js HOST PORT (of a server whose data may be lost)");
  const address = { host, port: Number(port) };
  const library = require("ioredis/package.json").version;
  const first = connect(address);
  const version = Number(/redis_version:(\d+\.\d+)/.exec(await first.info("server"))[1]);
  first.disconnect();
  for (const protocol of [2, 3]) {
    const open = (options) => connect({ ...address, protocol, ...options });
    const runner = new Runner({ open, server: SERVER, version });
    await runner.runAll();
    differences.push(...runner.differences.map((difference) => `RESP${protocol} ${difference}`));
    await runFamilies(address, protocol);
    console.log(`ioredis.sh: ioredis ${library}, RESP${protocol}: ${runner.count} cases, ${FAMILIES.length} families`);
  }
  if (process.env.UNIX_SOCKET) await runFamilies({ path: process.env.UNIX_SOCKET }, 3, [strings, transactions]);
  else console.log("ioredis.sh: UNIX_SOCKET is not set: the unix socket is left out");
  differences.forEach((difference) => console.log(difference));
  if (differences.length) {
    console.error(`ioredis.sh: ${differences.length} differences`);
    process.exitCode = 1;
  }
}

main().catch((problem) => {
  console.error(problem);
  process.exitCode = 1;
});
