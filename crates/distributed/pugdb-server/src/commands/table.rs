//! The table of all commands: how each is called, what it touches, what it says of itself, which function runs it.
//!
//! A row: name, arity (the name counts; a negative number is a minimum), flags, keys (first, last and step among the
//! arguments; a negative last counts from the end; and what happens to them), group, the Redis it is known since, what
//! it does, syntax behind the name, one sentence, and how it differs from Redis 7.2 (empty: not that we know).
//! `COMMAND` shows the table to clients, and `docs/reference/commands.md` is made of it.

use bytes::Bytes;
use pugdb_wire::resp::Reply;

use super::{
    acl, bitfield, bits, client, config, connection, expiry, info, introspection, keys, latency, lcs, memory,
    numbers, privacy, scan, serialize, server, slowlog, strings, transactions,
};
use crate::call::Call;
use crate::failure::Failure;

/// What a command does, in the words of `COMMAND INFO`, and three of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Changes keys.
    Write,
    /// Tells of keys.
    Readonly,
    /// Can need more memory.
    Denyoom,
    /// Takes about the same time always.
    Fast,
    /// For operators.
    Admin,
    /// Can do harm in the wrong hands.
    Dangerous,
    /// Needs no password.
    NoAuth,
    /// May run while data is loaded.
    Loading,
    /// Cannot be part of a transaction.
    NoMulti,
    /// Ours: runs at once between `MULTI` and `EXEC`.
    Immediate,
    /// Ours: can look at very many keys, and then must not hold up a thread that serves others.
    Walks,
    /// Ours: touches keys that its arguments do not name; a transaction with it locks everything.
    Whole,
    /// Ours: changes which keyspace a number stands for; runs while no other command does.
    Exclusive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Bitmap,
    Connection,
    Generic,
    Server,
    String,
    Transactions,
}

impl Group {
    /// Its name in Redis.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bitmap => "bitmap",
            Self::Connection => "connection",
            Self::Generic => "generic",
            Self::Server => "server",
            Self::String => "string",
            Self::Transactions => "transactions",
        }
    }
}

/// What a command does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Reads and writes.
    Update,
    /// Writes without a look at what was there.
    Overwrite,
    Remove,
}

/// Where keys are among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyPlaces {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) step: i64,
    pub(crate) access: Access,
}

impl KeyPlaces {
    /// The keys of a request, its name counted.
    pub(crate) fn of<'a>(&self, request: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let place = |number: i64| usize::try_from(number).unwrap_or(0);
        let end = if self.last < 0 {
            request.len().saturating_sub(place(-self.last - 1))
        } else {
            place(self.last + 1).min(request.len())
        };
        request.iter().take(end).skip(place(self.first)).step_by(place(self.step).max(1))
    }
}

pub(crate) type Run = fn(&mut Call<'_>, &[Bytes]) -> Result<Reply, Failure>;

/// What a row leads to.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    Run(Run),
    /// One of these, by the second argument. Their names are `container|name`, their arity counts both.
    Container(&'static [Command]),
}

pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) arity: i64,
    pub(crate) flags: &'static [Flag],
    pub(crate) keys: &'static [KeyPlaces],
    pub(crate) group: Group,
    pub(crate) since: &'static str,
    pub(crate) does: Does,
    pub(crate) syntax: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) differs: &'static str,
}

/// Rows of commands; the table below and the subcommands of a container are made by it.
macro_rules! commands {
    ($($name:literal $arity:literal [$($flag:ident)*] [$(($first:literal $last:literal $step:literal) $access:ident)*]
       $group:ident $since:literal $does:ident($what:path) $syntax:literal $summary:literal $differs:literal;)*) => {
        &[$($crate::commands::table::Command {
            name: $name,
            arity: $arity,
            flags: &[$($crate::commands::table::Flag::$flag),*],
            keys: &[$($crate::commands::table::KeyPlaces {
                first: $first,
                last: $last,
                step: $step,
                access: $crate::commands::table::Access::$access,
            }),*],
            group: $crate::commands::table::Group::$group,
            since: $since,
            does: $crate::commands::table::Does::$does($what),
            syntax: $syntax,
            summary: $summary,
            differs: $differs,
        }),*]
    };
}
pub(super) use commands;

/// All commands, in the order of their names.
#[rustfmt::skip]
pub(crate) static TABLE: &[Command] = commands! {
    "acl" -2 [] [] Server "6.0.0" Container(acl::SUBCOMMANDS) "" "Commands about users." "";
    "append" 3 [Write Denyoom Fast] [(1 1 1) Update] String "2.0.0" Run(strings::append) "key value" "Appends to a string." "";
    "auth" -2 [Fast NoAuth Loading NoMulti] [] Connection "1.0.0" Run(connection::auth) "[username] password" "Says who the client is." "Not inside MULTI. When many logins from one address have failed, others from there have to wait.";
    "bgsave" -1 [Admin] [] Server "1.0.0" Run(server::bgsave) "[SCHEDULE]" "Writes memory to tables, in the background." "There is no other copy to write; what was acknowledged is durable without it.";
    "bitcount" -2 [Readonly] [(1 1 1) Read] Bitmap "2.6.0" Run(bits::bitcount) "key [start end [BYTE | BIT]]" "Counts the bits that are set." "";
    "bitfield" -2 [Write Denyoom] [(1 1 1) Update] Bitmap "3.2.0" Run(bitfield::bitfield) "key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL] SET encoding offset value | INCRBY encoding offset increment ...]" "Reads and writes integers inside a string." "OVERFLOW SAT keeps numbers near -2^63 at the smallest that fits; Redis, whose sum overflows, at the largest.";
    "bitfield_ro" -2 [Readonly Fast] [(1 1 1) Read] Bitmap "6.0.0" Run(bitfield::bitfield_ro) "key [GET encoding offset ...]" "Reads integers inside a string." "";
    "bitop" -4 [Write Denyoom] [(2 2 1) Overwrite (3 -1 1) Read] Bitmap "2.6.0" Run(bits::bitop) "AND | OR | XOR | NOT destination key [key ...]" "Combines strings bit by bit." "";
    "bitpos" -3 [Readonly] [(1 1 1) Read] Bitmap "2.8.7" Run(bits::bitpos) "key bit [start [end [BYTE | BIT]]]" "Finds the first bit that is set or clear." "";
    "client" -2 [] [] Connection "2.4.0" Container(client::SUBCOMMANDS) "" "Commands about connections." "";
    "command" -1 [Loading] [] Server "2.8.13" Container(introspection::SUBCOMMANDS) "" "Describes all commands." "";
    "config" -2 [] [] Server "2.0.0" Container(config::SUBCOMMANDS) "" "Commands about settings." "";
    "copy" -3 [Write Denyoom Whole] [(1 1 1) Read (2 2 1) Overwrite] Generic "6.2.0" Run(keys::copy) "source destination [DB index] [REPLACE]" "Copies a key." "";
    "dbsize" 1 [Readonly Walks Whole] [] Server "1.0.0" Run(keys::dbsize) "" "Counts the keys of the database." "Exact; the count is kept until the next change or expiry. Keys that the user may not read are not counted.";
    "debug" -2 [] [] Server "1.0.0" Container(server::DEBUG) "" "Commands for tests." "SLEEP only, and it holds up its own connection only.";
    "decr" 2 [Write Denyoom Fast] [(1 1 1) Update] String "1.0.0" Run(numbers::decr) "key" "Subtracts one from a number." "";
    "decrby" 3 [Write Denyoom Fast] [(1 1 1) Update] String "1.0.0" Run(numbers::decrby) "key decrement" "Subtracts from a number." "";
    "del" -2 [Write] [(1 -1 1) Remove] Generic "1.0.0" Run(keys::del) "key [key ...]" "Deletes keys." "";
    "discard" 1 [Fast Loading Immediate] [] Transactions "2.0.0" Run(transactions::discard) "" "Gives up the transaction." "";
    "dump" 2 [Readonly] [(1 1 1) Read] Generic "2.6.0" Run(serialize::dump) "key" "Returns a key in the form that RESTORE reads." "";
    "echo" 2 [Fast Loading] [] Connection "1.0.0" Run(connection::echo) "message" "Returns its argument." "";
    "exec" 1 [Loading Immediate] [] Transactions "1.2.0" Run(transactions::exec) "" "Runs the transaction." "When the disk refuses its commit, the whole of it is one error and nothing has happened.";
    "exists" -2 [Readonly Fast] [(1 -1 1) Read] Generic "1.0.0" Run(keys::exists) "key [key ...]" "Counts which of the keys exist." "";
    "expire" -3 [Write Fast] [(1 1 1) Update] Generic "1.0.0" Run(expiry::expire) "key seconds [NX | XX | GT | LT]" "Lets a key expire after seconds." "";
    "expireat" -3 [Write Fast] [(1 1 1) Update] Generic "1.2.0" Run(expiry::expireat) "key seconds [NX | XX | GT | LT]" "Lets a key expire at a second of the calendar." "";
    "expiretime" 2 [Readonly Fast] [(1 1 1) Read] Generic "7.0.0" Run(expiry::expiretime) "key" "Returns when a key expires, in seconds." "";
    "flushall" -1 [Write Whole Dangerous] [] Server "1.0.0" Run(keys::flushall) "[ASYNC | SYNC]" "Removes all keys of all databases." "Both ways are the same: the keys are gone at once, their space comes back later. Keyspaces that are no database stay.";
    "flushdb" -1 [Write Whole Dangerous] [] Server "1.0.0" Run(keys::flushdb) "[ASYNC | SYNC]" "Removes all keys of the database." "Both ways are the same: the keys are gone at once, their space comes back later.";
    "get" 2 [Readonly Fast] [(1 1 1) Read] String "1.0.0" Run(strings::get) "key" "Returns the value of a key." "";
    "getbit" 3 [Readonly Fast] [(1 1 1) Read] Bitmap "2.2.0" Run(bits::getbit) "key offset" "Returns a bit." "";
    "getdel" 2 [Write Fast] [(1 1 1) Update] String "6.2.0" Run(strings::getdel) "key" "Returns the value of a key and deletes it." "";
    "getex" -2 [Write Fast] [(1 1 1) Update] String "6.2.0" Run(strings::getex) "key [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | PERSIST]" "Returns the value of a key and changes its expiry." "";
    "getrange" 4 [Readonly] [(1 1 1) Read] String "2.4.0" Run(strings::getrange) "key start end" "Returns a part of a string." "";
    "getset" 3 [Write Denyoom Fast] [(1 1 1) Update] String "1.0.0" Run(strings::getset) "key value" "Sets a key and returns its old value." "";
    "hello" -1 [Fast NoAuth Loading] [] Connection "6.0.0" Run(connection::hello) "[protover [AUTH username password] [SETNAME name]]" "Chooses the protocol." "AUTH is an error inside MULTI.";
    "incr" 2 [Write Denyoom Fast] [(1 1 1) Update] String "1.0.0" Run(numbers::incr) "key" "Adds one to a number." "";
    "incrby" 3 [Write Denyoom Fast] [(1 1 1) Update] String "1.0.0" Run(numbers::incrby) "key increment" "Adds to a number." "";
    "incrbyfloat" 3 [Write Denyoom Fast] [(1 1 1) Update] String "2.6.0" Run(numbers::incrbyfloat) "key increment" "Adds to a number with digits behind the point." "It counts in decimal, exactly, and rounds to 17 digits behind the point: 0.1 and 0.2 make 0.3, and digits beyond the 19 of a long double are right. Hexadecimal numbers, and numbers from 1e4932 on, are no valid floats.";
    "info" -1 [Loading Walks Dangerous] [] Server "1.0.0" Run(info::info) "[section ...]" "Describes the server and what it does." "The keys of a database are an estimate, and the line says so.";
    "keys" 2 [Readonly Walks Whole Dangerous] [] Generic "1.0.0" Run(keys::keys) "pattern" "Lists all keys that match." "In the order of the keys. Keys that the user may not read are left out, here and in SCAN and RANDOMKEY.";
    "lastsave" 1 [Fast Loading Admin] [] Server "1.0.0" Run(server::lastsave) "" "Returns the second of the last SAVE or BGSAVE that went well, or of the start." "";
    "latency" -2 [] [] Server "2.8.13" Container(latency::SUBCOMMANDS) "" "Commands about slow events." "";
    "lcs" -3 [Readonly Walks] [(1 2 1) Read] String "7.0.0" Run(lcs::lcs) "key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]" "Finds the longest common subsequence of two strings." "";
    "memory" -2 [] [] Server "4.0.0" Container(memory::SUBCOMMANDS) "" "Commands about memory." "";
    "mget" -2 [Readonly Fast] [(1 -1 1) Read] String "1.0.0" Run(strings::mget) "key [key ...]" "Returns the values of several keys." "A value that was erased is an error in its place.";
    "move" 3 [Write Fast Whole] [(1 1 1) Update] Generic "1.0.0" Run(keys::move_key) "key index" "Moves a key to another database." "";
    "mset" -3 [Write Denyoom] [(1 -1 2) Overwrite] String "1.0.1" Run(strings::mset) "key value [key value ...]" "Sets several keys in one step." "";
    "msetnx" -3 [Write Denyoom] [(1 -1 2) Overwrite] String "1.0.1" Run(strings::msetnx) "key value [key value ...]" "Sets several keys if none of them exists." "";
    "multi" 1 [Fast Loading Immediate] [] Transactions "1.2.0" Run(transactions::multi) "" "Begins a transaction." "";
    "object" -2 [] [] Generic "2.2.3" Container(memory::OBJECT) "" "Commands about how a key is kept." "";
    "persist" 2 [Write Fast] [(1 1 1) Update] Generic "2.2.0" Run(expiry::persist) "key" "Lets a key not expire." "";
    "pexpire" -3 [Write Fast] [(1 1 1) Update] Generic "2.6.0" Run(expiry::pexpire) "key milliseconds [NX | XX | GT | LT]" "Lets a key expire after milliseconds." "";
    "pexpireat" -3 [Write Fast] [(1 1 1) Update] Generic "2.6.0" Run(expiry::pexpireat) "key milliseconds [NX | XX | GT | LT]" "Lets a key expire at a millisecond of the calendar." "";
    "pexpiretime" 2 [Readonly Fast] [(1 1 1) Read] Generic "7.0.0" Run(expiry::pexpiretime) "key" "Returns when a key expires, in milliseconds." "";
    "ping" -1 [Fast Loading] [] Connection "1.0.0" Run(connection::ping) "[message]" "Shows that the server answers." "";
    "psetex" 4 [Write Denyoom] [(1 1 1) Overwrite] String "2.6.0" Run(strings::psetex) "key milliseconds value" "Sets a key that expires after milliseconds." "";
    "pttl" 2 [Readonly Fast] [(1 1 1) Read] Generic "2.6.0" Run(expiry::pttl) "key" "Returns how long a key lives, in milliseconds." "";
    "pugdb" -2 [] [] Server "" Container(privacy::SUBCOMMANDS) "" "Commands about keys and erasure." "";
    "quit" -1 [Fast NoAuth Loading Immediate] [] Connection "1.0.0" Run(connection::quit) "" "Closes the connection." "";
    "randomkey" 1 [Readonly Walks Whole] [] Generic "1.0.0" Run(keys::randomkey) "" "Returns some key." "Every key can come; not all are equally likely.";
    "rename" 3 [Write] [(1 1 1) Update (2 2 1) Overwrite] Generic "1.0.0" Run(keys::rename) "key newkey" "Gives a key another name." "";
    "renamenx" 3 [Write Fast] [(1 1 1) Update (2 2 1) Overwrite] Generic "1.0.0" Run(keys::renamenx) "key newkey" "Gives a key another name, if that is free." "";
    "reset" 1 [Fast NoAuth Loading Immediate] [] Connection "6.2.0" Run(connection::reset) "" "Makes the connection as new." "";
    "restore" -4 [Write Denyoom] [(1 1 1) Overwrite] Generic "2.6.0" Run(serialize::restore) "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]" "Makes a key of what DUMP returned." "Strings only; IDLETIME and FREQ have no effect.";
    "role" 1 [Fast Loading Admin] [] Server "2.8.12" Run(server::role) "" "Tells the server's place in a replication." "";
    "save" 1 [Admin NoMulti Walks] [] Server "1.0.0" Run(server::save) "" "Writes memory to tables." "There is no other copy to write; what was acknowledged is durable without it. Others are served meanwhile.";
    "scan" -2 [Readonly Walks Whole] [] Generic "2.8.0" Run(scan::scan) "cursor [MATCH pattern] [COUNT count] [TYPE type]" "Goes through the keys of the database." "In the order of the keys. A cursor that is unknown, or too old, is an error and never a silent end.";
    "select" 2 [Fast Loading] [] Connection "1.0.0" Run(connection::select) "index" "Chooses the database." "";
    "set" -3 [Write Denyoom] [(1 1 1) Update] String "1.0.0" Run(strings::set) "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL] [SUBJECT name]" "Sets a key." "SUBJECT names whom the value is about: it is sealed for this subject, until PUGDB ERASE-SUBJECT. What changes the value keeps its subject; a SET without the word does not.";
    "setbit" 4 [Write Denyoom] [(1 1 1) Update] Bitmap "2.2.0" Run(bits::setbit) "key offset value" "Sets or clears a bit and returns the old one." "";
    "setex" 4 [Write Denyoom] [(1 1 1) Overwrite] String "2.0.0" Run(strings::setex) "key seconds value" "Sets a key that expires after seconds." "";
    "setnx" 3 [Write Denyoom Fast] [(1 1 1) Update] String "1.0.0" Run(strings::setnx) "key value" "Sets a key if it does not exist." "";
    "setrange" 4 [Write Denyoom] [(1 1 1) Update] String "2.2.0" Run(strings::setrange) "key offset value" "Overwrites a part of a string." "";
    "shutdown" -1 [Admin NoMulti Loading] [] Server "1.0.0" Run(server::shutdown) "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]" "Ends the server in good order." "NOSAVE saves all the same: what was acknowledged is kept. Commands that others have sent are finished. It cannot be aborted.";
    "slowlog" -2 [] [] Server "2.2.12" Container(slowlog::SUBCOMMANDS) "" "Commands about slow commands." "";
    "strlen" 2 [Readonly Fast] [(1 1 1) Read] String "2.2.0" Run(strings::strlen) "key" "Returns the length of a string." "";
    "substr" 4 [Readonly] [(1 1 1) Read] String "1.0.0" Run(strings::getrange) "key start end" "Returns a part of a string." "";
    "swapdb" 3 [Write Whole Exclusive Dangerous] [] Server "4.0.0" Run(keys::swapdb) "index1 index2" "Exchanges two databases." "";
    "time" 1 [Fast Loading] [] Server "2.6.0" Run(server::time) "" "Returns the server's time, in seconds and microseconds." "It never goes back, and its microseconds are whole milliseconds.";
    "touch" -2 [Readonly Fast] [(1 -1 1) Read] Generic "3.2.1" Run(keys::exists) "key [key ...]" "Counts which of the keys exist." "Nothing ages by being read, so there is nothing to refresh.";
    "ttl" 2 [Readonly Fast] [(1 1 1) Read] Generic "1.0.0" Run(expiry::ttl) "key" "Returns how long a key lives, in seconds." "";
    "type" 2 [Readonly Fast] [(1 1 1) Read] Generic "1.0.0" Run(keys::type_of) "key" "Returns the type of what a key holds." "";
    "unlink" -2 [Write Fast] [(1 -1 1) Remove] Generic "4.0.0" Run(keys::del) "key [key ...]" "Deletes keys." "";
    "unwatch" 1 [Fast Loading] [] Transactions "2.2.0" Run(transactions::unwatch) "" "Forgets the watched keys." "";
    "wait" 3 [] [] Generic "3.0.0" Run(server::wait) "numreplicas timeout" "Waits for replicas." "There are none: it answers 0, after the timeout if it asks for some; a timeout of 0 does not wait.";
    "watch" -2 [Fast Loading Immediate] [(1 -1 1) Read] Transactions "2.2.0" Run(transactions::watch) "key [key ...]" "Lets the next transaction run only if the keys stay as they are." "";
};

/// Commands of Redis 7.2 that this version does not have. They say so in one fixed sentence.
pub(crate) const LATER: &[&str] = &[
    "asking",
    "bgrewriteaof",
    "blmove",
    "blmpop",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "cluster",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "failover",
    "fcall",
    "fcall_ro",
    "function",
    "geoadd",
    "geodist",
    "geohash",
    "geopos",
    "georadius",
    "georadius_ro",
    "georadiusbymember",
    "georadiusbymember_ro",
    "geosearch",
    "geosearchstore",
    "hdel",
    "hexists",
    "hget",
    "hgetall",
    "hincrby",
    "hincrbyfloat",
    "hkeys",
    "hlen",
    "hmget",
    "hmset",
    "hrandfield",
    "hscan",
    "hset",
    "hsetnx",
    "hstrlen",
    "hvals",
    "lindex",
    "linsert",
    "llen",
    "lmove",
    "lmpop",
    "lolwut",
    "lpop",
    "lpos",
    "lpush",
    "lpushx",
    "lrange",
    "lrem",
    "lset",
    "ltrim",
    "migrate",
    "module",
    "monitor",
    "pfadd",
    "pfcount",
    "pfdebug",
    "pfmerge",
    "pfselftest",
    "psubscribe",
    "psync",
    "publish",
    "pubsub",
    "punsubscribe",
    "readonly",
    "readwrite",
    "replconf",
    "replicaof",
    "restore-asking",
    "rpop",
    "rpoplpush",
    "rpush",
    "rpushx",
    "sadd",
    "scard",
    "script",
    "sdiff",
    "sdiffstore",
    "sinter",
    "sintercard",
    "sinterstore",
    "sismember",
    "slaveof",
    "smembers",
    "smismember",
    "smove",
    "sort",
    "sort_ro",
    "spop",
    "spublish",
    "srandmember",
    "srem",
    "sscan",
    "ssubscribe",
    "subscribe",
    "sunion",
    "sunionstore",
    "sunsubscribe",
    "sync",
    "unsubscribe",
    "waitaof",
    "xack",
    "xadd",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xgroup",
    "xinfo",
    "xlen",
    "xpending",
    "xrange",
    "xread",
    "xreadgroup",
    "xrevrange",
    "xsetid",
    "xtrim",
    "zadd",
    "zcard",
    "zcount",
    "zdiff",
    "zdiffstore",
    "zincrby",
    "zinter",
    "zintercard",
    "zinterstore",
    "zlexcount",
    "zmpop",
    "zmscore",
    "zpopmax",
    "zpopmin",
    "zrandmember",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrangestore",
    "zrank",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscan",
    "zscore",
    "zunion",
    "zunionstore",
];

impl Command {
    /// The command of that name, in whatever case, and its place in the table.
    pub(crate) fn find(name: &[u8]) -> Option<(usize, &'static Self)> {
        let lowercase = |byte: &u8| byte.to_ascii_lowercase();
        let found = TABLE.binary_search_by(|command| command.name.bytes().cmp(name.iter().map(lowercase)));
        found.ok().and_then(|index| Some((index, TABLE.get(index)?)))
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity >= 0 { arguments == self.arity } else { arguments >= -self.arity }
    }

    /// The commands behind it, if it is a container.
    pub(crate) fn subcommands(&self) -> &'static [Self] {
        match self.does {
            Does::Container(subcommands) => subcommands,
            Does::Run(_) => &[],
        }
    }

    /// What is called behind the container's name; the whole name of a command that is in none.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, name)| name)
    }

    /// The keys of a request.
    pub(crate) fn keys_of<'a>(&self, request: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let places = self.keys;
        places.iter().flat_map(move |places| places.of(request))
    }
}

/// Whether Redis has a command of this name that comes later here.
pub(crate) fn comes_later(name: &[u8]) -> bool {
    let lowercase = |byte: &u8| byte.to_ascii_lowercase();
    LATER.binary_search_by(|known| known.bytes().cmp(name.iter().map(lowercase))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_that_find_relies_on() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        assert!(LATER.is_sorted_by(|a, b| a < b));
        for command in TABLE {
            let uppercase = command.name.to_ascii_uppercase();
            assert_eq!(Command::find(uppercase.as_bytes()).map(|(_, found)| found.name), Some(command.name));
            assert!(!comes_later(command.name.as_bytes()), "{} is here already", command.name);
            for subcommand in command.subcommands() {
                let in_container =
                    subcommand.name.strip_prefix(command.name).and_then(|rest| rest.strip_prefix('|'));
                assert_eq!(in_container, Some(subcommand.short_name()));
                assert!(!subcommand.takes(1), "{} has no room for its own name", subcommand.name);
            }
        }
        assert!(Command::find(b"ge").is_none() && Command::find(b"").is_none());
        assert!(comes_later(b"LPUSH") && !comes_later(b"foo"));
    }

    #[test]
    fn writes_name_keys_that_they_write_or_touch_everything() {
        for command in TABLE.iter().filter(|command| command.has(Flag::Write)) {
            let writes = command.keys.iter().any(|places| places.access != Access::Read);
            assert!(
                writes || command.has(Flag::Whole),
                "{}: a transaction would lock too little",
                command.name
            );
            assert!(!command.has(Flag::Readonly), "{}", command.name);
        }
        for command in TABLE.iter().filter(|command| command.has(Flag::Readonly)) {
            assert!(command.keys.iter().all(|places| places.access == Access::Read), "{}", command.name);
        }
    }

    #[test]
    fn a_negative_arity_is_a_minimum() {
        let command = |name: &[u8]| Command::find(name).unwrap().1;
        assert!(command(b"get").takes(2) && !command(b"get").takes(3));
        assert!(command(b"del").takes(2) && command(b"del").takes(9) && !command(b"del").takes(1));
    }

    #[test]
    fn keys_are_found_by_their_places() {
        let request: Vec<Bytes> = ["bitop", "AND", "to", "a", "b"].map(Bytes::from).to_vec();
        let keys: Vec<&Bytes> = Command::find(b"bitop").unwrap().1.keys_of(&request).collect();
        assert_eq!(keys, ["to", "a", "b"]);
        let request: Vec<Bytes> = ["mset", "a", "1", "b", "2"].map(Bytes::from).to_vec();
        assert_eq!(Command::find(b"mset").unwrap().1.keys_of(&request).collect::<Vec<_>>(), ["a", "b"]);
    }
}
