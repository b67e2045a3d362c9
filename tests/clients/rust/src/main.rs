//! redis-rs as a client, in RESP2 and RESP3: all of cases/, and what the library makes of each command.
//!
//! Usage: `cargo run -- HOST PORT`, as ../redis_rs.sh does. UNIX_SOCKET and AGAINST are those of ../redis_py.py.

mod cases;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::{
    Client, Commands as _, Connection, CopyOptions, ExistenceCheck, ExpireOption, Expiry, RedisError,
    RedisResult, ScanOptions, SetExpiry, SetOptions, ToRedisArgs, Value, cmd, pipe, transaction,
};

/// The server that is asked.
#[derive(Clone, Copy)]
pub struct Against {
    /// A real Redis, and not PugDB.
    pub redis: bool,
    pub version: (u32, u32),
}

static DIFFERENCES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn differ(difference: String) {
    DIFFERENCES.lock().expect("nobody panics while holding it").push(difference);
}

#[track_caller]
fn expect<T: PartialEq + Debug>(got: T, expected: T) {
    if got != expected {
        let (mut got, mut expected) = (format!("{got:?}"), format!("{expected:?}"));
        got.truncate(1000);
        expected.truncate(1000);
        differ(format!("{}: expected {expected}, got {got}", Location::caller()));
    }
}

#[track_caller]
fn within<T: PartialOrd + Debug>(low: T, value: T, high: T) {
    if !(low <= value && value <= high) {
        differ(format!("{}: expected {low:?} to {high:?}, got {value:?}", Location::caller()));
    }
}

/// The command's error begins with a word and holds a text.
#[track_caller]
fn refused<T: Debug>(result: RedisResult<T>, code: &str, text: &str) {
    match result {
        Err(error) if error.code() == Some(code) && error.detail().unwrap_or_default().contains(text) => {}
        other => differ(format!("{}: expected an error {code} {text}, got {other:?}", Location::caller())),
    }
}

/// A command by its words.
fn call<T: redis::FromRedisValue>(connection: &mut Connection, words: &[&str]) -> RedisResult<T> {
    cmd(words[0]).arg(&words[1..]).query(connection)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}

fn strings(r: &mut Connection, _: &Client) -> RedisResult<()> {
    expect(r.set("key", "value")?, "OK".to_owned());
    expect(r.get("key")?, Some("value".to_owned()));
    expect(r.get("missing")?, None::<String>);
    let options = |check| SetOptions::default().conditional_set(check);
    expect(r.set_options("key", "other", options(ExistenceCheck::NX))?, None::<String>);
    expect(r.set_options("missing", "other", options(ExistenceCheck::XX))?, None::<String>);
    expect(r.set_options("key", "other", SetOptions::default().get(true))?, Some("value".to_owned()));
    for expiry in [
        SetExpiry::EX(1000),
        SetExpiry::PX(1_000_000),
        SetExpiry::EXAT(now().as_secs() + 1000),
        SetExpiry::PXAT(u64::try_from(now().as_millis()).expect("it fits") + 1_000_000),
        SetExpiry::KEEPTTL,
    ] {
        let options = options(ExistenceCheck::XX).with_expiration(expiry);
        expect(r.set_options("key", "value", options)?, Some("OK".to_owned()));
        within(999, r.ttl("key")?, 1000);
    }
    expect(r.set_nx("key", 1)?, false);
    expect(r.set_nx("fresh", 1)?, true);
    expect(r.set_ex("key", "value", 100)?, "OK".to_owned());
    expect(r.pset_ex("key", "value", 100_000)?, "OK".to_owned());
    refused(r.set_ex::<_, _, ()>("key", "value", 0), "ERR", "invalid expire time in 'setex' command");
    expect(r.getset("key", "new")?, Some("value".to_owned()));
    expect(r.get_ex("key", Expiry::EX(100))?, Some("new".to_owned()));
    expect(r.get_ex("key", Expiry::PERSIST)?, Some("new".to_owned()));
    expect(r.ttl("key")?, -1);
    expect(r.get_del("key")?, Some("new".to_owned()));
    expect(r.get_del("key")?, None::<String>);
    expect(r.append("key", "Hello")?, 5);
    expect(r.append("key", " World")?, 11);
    expect(r.strlen("key")?, 11);
    expect(r.getrange("key", -5, -1)?, "World".to_owned());
    expect(call(r, &["SUBSTR", "key", "0", "4"])?, "Hello".to_owned());
    expect(r.setrange("key", 6, "Redis")?, 11);
    expect(r.mset(&[("a", 1), ("b", 2)])?, "OK".to_owned());
    expect(r.mget(&["a", "missing", "b"])?, (Some(1), None::<i64>, Some(2)));
    expect(r.mset_nx(&[("a", 1), ("z", 2)])?, false);
    expect(r.mset_nx(&[("y", 1), ("z", 2)])?, true);
    expect(r.incr("n", 1)?, 1);
    expect(r.incr("n", 10)?, 11);
    expect(r.decr("n", 1)?, 10);
    expect(r.decr("n", 20)?, -10);
    expect(r.incr("float", 0.1)?, 0.1);
    expect(r.incr("float", 0.2)?, 0.3);
    expect(r.get("float")?, "0.3".to_owned());
    refused(r.incr::<_, _, i64>("key", 1), "ERR", "value is not an integer or out of range");
    r.set::<_, _, ()>("n", i64::MAX)?;
    expect(r.get("n")?, i64::MAX);
    refused(r.incr::<_, _, i64>("n", 1), "ERR", "increment or decrement would overflow");
    r.mset::<_, _, ()>(&[("key1", "ohmytext"), ("key2", "mynewtext")])?;
    expect(call(r, &["LCS", "key1", "key2"])?, "mytext".to_owned());
    expect(call(r, &["LCS", "key1", "key2", "LEN"])?, 6);
    let matches: HashMap<String, Value> = call(r, &["LCS", "key1", "key2", "IDX"])?;
    expect(matches.get("len"), Some(&Value::Int(6)));
    Ok(())
}

fn any_bytes(r: &mut Connection, _: &Client) -> RedisResult<()> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let value = every_byte.repeat(1000);
    r.set::<_, _, ()>(&every_byte, &value)?;
    expect(r.get::<_, Vec<u8>>(&every_byte)? == value, true);
    expect(r.keys("*")?, vec![every_byte.clone()]);
    expect(r.getrange(&every_byte, 255, 256)?, vec![255_u8, 0]);
    for size in [512 << 10, 64 << 20] {
        let value = every_byte.repeat(size / 256);
        expect(r.set("large", &value)?, "OK".to_owned());
        expect(r.strlen("large")?, size);
        expect(r.get::<_, Vec<u8>>("large")? == value, true);
        expect(r.append("large", "tail")?, size + 4);
        expect(r.getrange("large", -4, -1)?, "tail".to_owned());
        let (large, missing): (Vec<u8>, Option<Vec<u8>>) = r.mget(&["large", "missing"])?;
        expect((large.len(), missing), (size + 4, None));
        expect(r.del("large")?, 1);
    }
    Ok(())
}

fn expiry(r: &mut Connection, _: &Client) -> RedisResult<()> {
    r.set::<_, _, ()>("key", "value")?;
    expect(r.expire("key", 100)?, true);
    expect(r.expire("missing", 100)?, false);
    let option = |option: ExpireOption, word: &str, r: &mut Connection, seconds: i64| -> RedisResult<bool> {
        expect(option.to_redis_args(), vec![word.as_bytes().to_vec()]);
        cmd("EXPIRE").arg("key").arg(seconds).arg(option).query(r)
    };
    expect(option(ExpireOption::NX, "NX", r, 100)?, false);
    expect(option(ExpireOption::XX, "XX", r, 200)?, true);
    expect(option(ExpireOption::GT, "GT", r, 300)?, true);
    expect(option(ExpireOption::LT, "LT", r, 400)?, false);
    expect(r.ttl("key")?, 300);
    within(299_000, r.pttl("key")?, 300_000);
    expect(r.pexpire("key", 100_000)?, true);
    expect(r.expire_at("key", 33_177_117_420)?, true);
    expect(r.expire_time("key")?, 33_177_117_420_i64);
    expect(r.pexpire_at("key", 33_177_117_420_123)?, true);
    expect(r.pexpire_time("key")?, 33_177_117_420_123_i64);
    expect(r.persist("key")?, true);
    expect(r.persist("key")?, false);
    expect((r.ttl("key")?, r.ttl("missing")?, r.expire_time("missing")?), (-1, -2, -2));
    refused(call::<i64>(r, &["EXPIRE", "key", "100", "NX", "GT"]), "ERR", "not compatible");
    r.pset_ex::<_, _, ()>("short", 1, 1)?;
    thread::sleep(Duration::from_millis(20));
    expect((r.get("short")?, r.exists("short")?), (None::<String>, false));
    Ok(())
}

fn keys(r: &mut Connection, client: &Client) -> RedisResult<()> {
    r.mset::<_, _, ()>(&[("a", 1), ("b", 2), ("c", 3)])?;
    expect(r.exists(&["a", "a", "missing"])?, 2);
    expect(call(r, &["TOUCH", "a", "missing"])?, 1);
    expect((r.key_type("a")?, r.key_type("missing")?), ("string".to_owned(), "none".to_owned()));
    expect(r.rename("a", "x")?, "OK".to_owned());
    refused(r.rename::<_, _, ()>("a", "x"), "ERR", "no such key");
    expect((r.rename_nx("x", "b")?, r.rename_nx("x", "a")?), (false, true));
    let options = CopyOptions::default;
    expect((r.copy("a", "a2", options())?, r.copy("a", "a2", options())?), (true, false));
    expect(r.copy("a", "b", options().replace(true))?, true);
    expect(r.copy("a", "a", CopyOptions::default().db(7))?, true);
    let mut seven = client.get_connection()?;
    expect(call(&mut seven, &["SELECT", "7"])?, "OK".to_owned());
    expect((seven.get("a")?, call(&mut seven, &["MOVE", "a", "0"])?), (1, 0));
    expect((r.del("a")?, call(&mut seven, &["MOVE", "a", "0"])?), (1, 1));
    seven.set::<_, _, ()>("seven", 7)?;
    expect(call(r, &["SWAPDB", "0", "7"])?, "OK".to_owned());
    expect((seven.get("a")?, r.get("seven")?, call(r, &["DBSIZE"])?), (1, 7, 1));
    expect(call(r, &["SWAPDB", "0", "7"])?, "OK".to_owned());
    let random: String = call(r, &["RANDOMKEY"])?;
    let mut all: Vec<String> = r.keys("*")?;
    all.sort();
    expect(all.contains(&random), true);
    expect(all, ["a", "a2", "b", "c"].map(str::to_owned).to_vec());
    expect(r.object_encoding("c")?, Some("int".to_owned()));
    expect(r.object_refcount("missing")?, None::<usize>);
    within(1, call(r, &["MEMORY", "USAGE", "c"])?, 10_000);
    expect((r.unlink(&["b", "missing"])?, r.del(&["a", "a2"])?), (1, 2));
    expect((call(r, &["FLUSHDB", "ASYNC"])?, r.flushall()?), ("OK".to_owned(), "OK".to_owned()));
    expect(call(r, &["DBSIZE"])?, 0);
    Ok(())
}

fn scanning(r: &mut Connection, client: &Client) -> RedisResult<()> {
    let stays: BTreeSet<String> = (0..3000).map(|number| format!("stays:{number}")).collect();
    let items: Vec<_> = stays.iter().map(|key| (key.as_str(), 1)).collect();
    r.mset::<_, _, ()>(&items)?;
    let mut other = client.get_connection()?;
    let mut seen = BTreeSet::new();
    for key in r.scan_options(ScanOptions::default().with_pattern("stays:*").with_count(37))? {
        seen.insert(key?);
        if seen.len() % 100 == 0 {
            other.mset::<_, _, ()>(&[
                (format!("comes:{}", seen.len()), 1),
                (format!("stays!{}", seen.len()), 1),
            ])?;
        }
    }
    expect(seen == stays, true);
    let strings: Vec<String> =
        r.scan_options(ScanOptions::default().with_type("string"))?.collect::<RedisResult<_>>()?;
    within(3000, strings.len(), 100_000);
    let hashes: Vec<String> =
        r.scan_options(ScanOptions::default().with_type("hash"))?.collect::<RedisResult<_>>()?;
    expect(hashes, Vec::new());
    let some: Vec<String> = r.scan_match("stays:299?")?.collect::<RedisResult<_>>()?;
    expect(some.len(), 10);
    let (cursor, some): (u64, Vec<String>) = call(r, &["SCAN", "0", "COUNT", "10"])?;
    expect(cursor != 0, true);
    within(1, some.len(), 2999);
    refused(call::<Value>(r, &["SCAN", "text"]), "ERR", "invalid cursor");
    Ok(())
}

fn bits(r: &mut Connection, _: &Client) -> RedisResult<()> {
    r.set::<_, _, ()>("key", "foobar")?;
    expect((r.bitcount("key")?, r.bitcount_range("key", 1, 1)?), (26, 6));
    expect((r.getbit("key", 1)?, r.setbit("key", 7, true)?, r.setbit("key", 7, false)?), (true, false, true));
    r.set::<_, _, ()>("key", b"\xff\xf0\x00")?;
    expect(call(r, &["BITPOS", "key", "0"])?, 12);
    expect(call(r, &["BITPOS", "key", "1", "1", "-1"])?, 8);
    r.mset::<_, _, ()>(&[("key1", "foobar"), ("key2", "abcdef")])?;
    expect((r.bit_and("dest", &["key1", "key2"])?, r.get("dest")?), (6, "`bc`ab".to_owned()));
    expect((r.bit_or("dest", &["key1", "key2"])?, r.get("dest")?), (6, "goofev".to_owned()));
    expect((r.bit_xor("dest", &["key1", "key1"])?, r.get("dest")?), (6, vec![0_u8; 6]));
    expect((r.bit_not("dest", "missing")?, r.exists("dest")?), (0, false));
    let fields = ["BITFIELD", "f", "OVERFLOW", "SAT", "SET", "u8", "0", "250", "INCRBY", "u8", "0", "100"];
    expect(call(r, &fields)?, vec![0, 255]);
    expect(call(r, &["BITFIELD", "f", "OVERFLOW", "FAIL", "INCRBY", "u8", "0", "1"])?, vec![None::<i64>]);
    expect(call(r, &["BITFIELD_RO", "f", "GET", "u8", "0", "GET", "i8", "0"])?, vec![255, -1]);
    refused(call::<Value>(r, &["BITFIELD", "f", "GET", "u64", "0"]), "ERR", "Invalid bitfield type");
    Ok(())
}

fn serialised(r: &mut Connection, _: &Client) -> RedisResult<()> {
    let long = b"ab".repeat(5000);
    for value in [b"".as_slice(), b"12", b"-70000", b"5000000000", b"007", b"\x00\xff\r\n", &long] {
        r.set::<_, _, ()>("key", value)?;
        let mut dumped: Vec<u8> = cmd("DUMP").arg("key").query(r)?;
        let restored: String =
            cmd("RESTORE").arg("copy").arg(100_000).arg(&dumped).arg("REPLACE").query(r)?;
        expect(restored, "OK".to_owned());
        expect(r.get::<_, Vec<u8>>("copy")? == value, true);
        within(99, r.ttl("copy")?, 100);
        let again: RedisResult<()> = cmd("RESTORE").arg("copy").arg(0).arg(&dumped).query(r);
        refused(again, "BUSYKEY", "Target key name already exists");
        *dumped.last_mut().expect("a dump ends with a checksum") ^= 1;
        let damaged: RedisResult<()> = cmd("RESTORE").arg("bad").arg(0).arg(&dumped).query(r);
        refused(damaged, "ERR", "checksum");
    }
    Ok(())
}

fn pipelines(r: &mut Connection, _: &Client) -> RedisResult<()> {
    let mut many = pipe();
    for number in 0..10_000 {
        many.set(format!("pipe:{number}"), number).ignore();
        many.get(format!("pipe:{number}"));
    }
    let replies: Vec<i64> = many.query(r)?;
    expect(replies == (0..10_000).collect::<Vec<_>>(), true);
    let failing: RedisResult<Value> = pipe().set("text", "abc").incr("text", 1).set("after", 1).query(r);
    expect(failing.is_err(), true);
    expect(r.get("after")?, 1);
    Ok(())
}

fn transactions(r: &mut Connection, client: &Client) -> RedisResult<()> {
    let replies: (String, i64, i64) = pipe().atomic().set("a", 1).incr("a", 1).get("a").query(r)?;
    expect(replies, ("OK".to_owned(), 2, 2));
    // One that fails while it runs keeps the others' effects.
    let failing: RedisResult<Value> =
        pipe().atomic().set("text", "abc").incr("text", 1).set("after", 1).query(r);
    expect(failing.is_err(), true);
    expect((r.get("text")?, r.get("after")?), ("abc".to_owned(), 1));
    // One that cannot be queued undoes all of them.
    let failing: RedisResult<Value> = pipe().atomic().set("a", "undone").cmd("GET").query(r);
    expect(failing.is_err(), true);
    expect(r.get("a")?, 2);

    r.mset::<_, _, ()>(&[("account:a", 1000), ("account:b", 1000)])?;
    let mover = || -> RedisResult<()> {
        let mut r = client.get_connection()?;
        for _ in 0..25 {
            let accounts = ["account:a", "account:b"];
            transaction::<_, _, ((),), _>(&mut r, &accounts, |r, pipe| {
                let (a, b): (i64, i64) = r.mget(&accounts)?;
                pipe.mset(&[(accounts[0], a - 1), (accounts[1], b + 1)]).query(r)
            })?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..8).map(|_| scope.spawn(mover)).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("a mover does not panic"))
    })?;
    expect(r.mget(&["account:a", "account:b"])?, (800, 1200));
    Ok(())
}

fn clients(r: &mut Connection, client: &Client) -> RedisResult<()> {
    let mut one = client.get_connection()?;
    expect(one.client_setname("pug")?, "OK".to_owned());
    expect(one.client_getname()?, Some("pug".to_owned()));
    let id: i64 = one.client_id()?;
    let info: String = call(&mut one, &["CLIENT", "INFO"])?;
    expect(info.contains("name=pug ") && info.contains("cmd=client|info"), true);
    let listed: String = call(r, &["CLIENT", "LIST", "ID", &id.to_string()])?;
    expect(listed.contains("name=pug "), true);
    refused(call::<()>(r, &["CLIENT", "KILL", "127.0.0.1:1"]), "ERR", "No such client");
    expect(call(r, &["CLIENT", "KILL", "ID", &id.to_string()])?, 1);
    expect(one.ping::<String>().is_err_and(|error: RedisError| error.is_connection_dropped()), true);
    expect(call(r, &["CLIENT", "PAUSE", "50", "WRITE"])?, "OK".to_owned());
    let began = Instant::now();
    r.set::<_, _, ()>("key", "after the pause")?;
    within(Duration::from_millis(30), began.elapsed(), Duration::from_secs(10));
    expect(call(r, &["CLIENT", "UNPAUSE"])?, "OK".to_owned());
    Ok(())
}

fn server_itself(r: &mut Connection, client: &Client) -> RedisResult<()> {
    expect((r.ping()?, r.ping_message("hello")?), ("PONG".to_owned(), "hello".to_owned()));
    expect(call(r, &["ECHO", "hello"])?, "hello".to_owned());
    expect(call(r, &["ACL", "WHOAMI"])?, "default".to_owned());
    let (seconds, microseconds): (u64, u64) = call(r, &["TIME"])?;
    within(now().as_secs() - 60, seconds, now().as_secs() + 60);
    within(0, microseconds, 999_999);
    let info: redis::InfoDict = call(r, &["INFO"])?;
    expect(info.get::<String>("role"), Some("master".to_owned()));
    expect(info.get::<String>("redis_version").is_some_and(|version| version.starts_with("7.")), true);
    within(1, info.get::<u64>("connected_clients").unwrap_or_default(), 1000);
    let settings: HashMap<String, String> = call(r, &["CONFIG", "GET", "databases"])?;
    expect(settings.get("databases").map(String::as_str), Some("16"));
    expect(call(r, &["CONFIG", "SET", "slowlog-log-slower-than", "0"])?, "OK".to_owned());
    expect(r.set("key", "value")?, "OK".to_owned());
    within(1, call(r, &["SLOWLOG", "LEN"])?, 128);
    let slow: Vec<(i64, u64, u64, Vec<String>, String, String)> = call(r, &["SLOWLOG", "GET", "1"])?;
    expect(slow.len(), 1);
    expect(call(r, &["CONFIG", "SET", "slowlog-log-slower-than", "10000"])?, "OK".to_owned());
    expect(call(r, &["SLOWLOG", "RESET"])?, "OK".to_owned());
    expect(call(r, &["CONFIG", "RESETSTAT"])?, "OK".to_owned());
    within(80, call(r, &["COMMAND", "COUNT"])?, 1000);
    let commands: Vec<String> = call(r, &["COMMAND", "LIST"])?;
    expect(commands.iter().any(|name| name == "get"), true);
    let docs: HashMap<String, Value> = call(r, &["COMMAND", "DOCS", "get", "set"])?;
    expect(docs.len(), 2);
    expect(
        call(r, &["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"])?,
        vec!["a".to_owned(), "b".to_owned()],
    );
    expect(call(r, &["LATENCY", "LATEST"])?, Vec::<Value>::new());
    expect(call(r, &["SAVE"])?, "OK".to_owned());
    within(now().as_secs() - 60, call(r, &["LASTSAVE"])?, now().as_secs() + 60);
    expect(call::<String>(r, &["BGSAVE"])?.starts_with("Background saving"), true);
    expect((call(r, &["WAIT", "0", "100"])?, call(r, &["WAIT", "1", "20"])?), (0, 0));
    let (role, _, _): (String, i64, Vec<Value>) = call(r, &["ROLE"])?;
    expect(role, "master".to_owned());
    expect(call(r, &["DEBUG", "SLEEP", "0"])?, "OK".to_owned());
    refused(call::<()>(r, &["AUTH", "secret"]), "ERR", "without any password");
    refused(call::<()>(r, &["SELECT", "16"]), "ERR", "DB index is out of range");
    refused(call::<()>(r, &["GET"]), "ERR", "wrong number of arguments for 'get' command");
    refused(call::<()>(r, &["NOTHING", "secret"]), "ERR", "unknown command");
    expect(call(&mut client.get_connection()?, &["QUIT"])?, "OK".to_owned());
    Ok(())
}

fn come_later(r: &mut Connection, _: &Client) -> RedisResult<()> {
    let sentence = "this command is not in this version of PugDB";
    refused(call::<()>(r, &["EVAL", "return 1", "0"]), "ERR", sentence);
    refused(r.publish::<_, _, ()>("channel", "message"), "ERR", sentence);
    refused(r.lpush::<_, _, ()>("list", 1), "ERR", sentence);
    refused(r.hset::<_, _, _, ()>("hash", "field", 1), "ERR", sentence);
    refused(r.sadd::<_, _, ()>("set", 1), "ERR", sentence);
    refused(r.zadd::<_, _, _, ()>("zset", "a", 1), "ERR", sentence);
    Ok(())
}

type Family = fn(&mut Connection, &Client) -> RedisResult<()>;

/// What the library makes of each command.
const FAMILIES: &[(&str, Family)] = &[
    ("strings", strings),
    ("any_bytes", any_bytes),
    ("expiry", expiry),
    ("keys", keys),
    ("scanning", scanning),
    ("bits", bits),
    ("serialised", serialised),
    ("pipelines", pipelines),
    ("transactions", transactions),
    ("clients", clients),
    ("server_itself", server_itself),
];

fn run_family(name: &str, family: Family, client: &Client) {
    let run = || -> RedisResult<()> {
        let mut r = client.get_connection()?;
        r.flushall::<()>()?;
        family(&mut r, client)?;
        r.flushall()
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => differ(format!("{name} ended early: {error:?}")),
        Err(_) => differ(format!("{name} panicked")),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port] = arguments.as_slice() else {
        eprintln!("usage: pugdb-client-tests HOST PORT (of a server whose data may be lost)");
        return ExitCode::from(2);
    };
    let open = |url: String| Client::open(url).expect("the URL is one");
    let mut against =
        Against { redis: std::env::var("AGAINST").is_ok_and(|server| server == "redis"), version: (7, 2) };
    let plain = open(format!("redis://{host}:{port}"));
    let info: redis::InfoDict =
        match plain.get_connection().and_then(|mut r| call(&mut r, &["INFO", "server"])) {
            Ok(info) => info,
            Err(error) => {
                eprintln!("redis_rs.sh: the server does not answer: {error}");
                return ExitCode::FAILURE;
            }
        };
    let version = info.get::<String>("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    against.version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    for protocol in [2, 3] {
        let client = open(format!("redis://{host}:{port}/?protocol=resp{protocol}"));
        let mut runner = cases::Runner::new(&client, against);
        runner.run_all(&folder);
        let mut families = FAMILIES.to_vec();
        if !against.redis {
            families.push(("come_later", come_later));
        }
        for (name, family) in &families {
            run_family(name, *family, &client);
        }
        println!(
            "redis_rs.sh: redis-rs, RESP{protocol}: {} cases, {} families",
            runner.count,
            families.len()
        );
        runner.differences.into_iter().for_each(|difference| differ(format!("RESP{protocol} {difference}")));
    }
    match std::env::var("UNIX_SOCKET").ok().filter(|path| !path.is_empty()) {
        Some(path) => {
            run_family("strings by the unix socket", strings, &open(format!("redis+unix://{path}")))
        }
        None => println!("redis_rs.sh: UNIX_SOCKET is not set: the unix socket is left out"),
    }

    let differences = DIFFERENCES.lock().expect("nobody panics while holding it");
    differences.iter().for_each(|difference| println!("{difference}"));
    if differences.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("redis_rs.sh: {} differences", differences.len());
    ExitCode::FAILURE
}
