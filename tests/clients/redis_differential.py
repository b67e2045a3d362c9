#!/usr/bin/env python3
"""The same random commands to PugDB and to redis-server: every reply has to be the same.

Usage: redis_differential.py HOST PORT [SEED [COMMANDS]]. The server's databases are emptied: give it a server of its
own. A redis-server is started beside it, on a free port and without files. Ends with 77 when there is none.

What is allowed to differ stands in `KNOWN_DIFFERENCES`, each with its reason.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TIMEOUT_SECONDS = 30


# The protocol, in both versions.


class Error(str):
    pass


class Status(str):
    pass


class Connection:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def send(self, commands):
        parts = []
        for command in commands:
            parts.append(b"*%d\r\n" % len(command))
            parts.extend(b"$%d\r\n%s\r\n" % (len(word), word) for word in command)
        self.socket.sendall(b"".join(parts))

    def call(self, *words):
        self.send([[to_bytes(word) for word in words]])
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise AssertionError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return Status(rest.decode())
        if kind == b"-":
            return Error(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.bytes(int(rest))
        if kind == b"=":
            return self.bytes(int(rest))[4:]
        if kind in b"*~>":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        if kind == b"%":
            return {self.reply(): self.reply() for _ in range(int(rest))}
        if kind == b"_":
            return None
        raise AssertionError(f"a reply of an unknown kind: {line!r}")

    def bytes(self, length):
        if length < 0:
            return None
        return self.reader.read(length + 2)[:-2]


def to_bytes(word):
    return word if isinstance(word, bytes) else str(word).encode()


# What is allowed to differ. A rule is given the command and both replies, and says whether that is fine.


def name_of(command):
    return command[0].lower().decode(errors="replace")


def close_in_time(command, ours, theirs):
    """The clocks are read at slightly different moments."""
    tolerance = {"ttl": 2, "expiretime": 2, "pttl": 2000, "pexpiretime": 2000}.get(name_of(command))
    numbers = isinstance(ours, int) and isinstance(theirs, int)
    return tolerance is not None and numbers and min(ours, theirs) >= 0 and abs(ours - theirs) <= tolerance


def order_of_keys(command, ours, theirs):
    """KEYS has no order in Redis."""
    return name_of(command) == "keys" and isinstance(ours, list) and sorted(ours) == sorted(theirs)


def scan_in_one_go(command, ours, theirs):
    """SCAN has no order in Redis either; it is asked for everything at once here."""
    both = isinstance(ours, list) and isinstance(theirs, list)
    return name_of(command) == "scan" and both and ours[0] == theirs[0] and sorted(ours[1]) == sorted(theirs[1])


def any_key(command, ours, theirs):
    """RANDOMKEY: some key, if there is one."""
    return name_of(command) == "randomkey" and ours is not None and theirs is not None


def no_argument_in_errors(command, ours, theirs):
    """Errors here never repeat what a client has sent, unless it looks like a name."""
    if not (isinstance(ours, Error) and isinstance(theirs, Error)):
        return False
    beginnings = {"ERR Unsupported option": "ERR Unsupported option ", "ERR unknown subcommand": "ERR unknown subcommand"}
    return any(ours.startswith(one) and theirs.startswith(other) for one, other in beginnings.items())


def bits_as_in_7_2(command, ours, theirs):
    """Up to 7.0 BITCOUNT and BITPOS did not look at their arguments when there was no such key."""
    return name_of(command) in ("bitcount", "bitpos") and isinstance(ours, Error) and theirs in (0, -1)


def expired_are_counted(command, ours, theirs):
    """Redis counts what is expired until it has been removed. Here the count is exact, which is checked below."""
    return name_of(command) == "dbsize" and isinstance(ours, int) and isinstance(theirs, int) and 0 <= theirs - ours <= 5


def own_dump(command, ours, theirs):
    """A dump names the version of RDB: 11 as in 7.2. What is in it is compared by RESTORE, below."""
    return name_of(command) == "dump" and ours is not None and theirs is not None


def exact_sums(command, ours, theirs):
    """INCRBYFLOAT is exact; Redis has the 19 digits of a long double."""
    if name_of(command) != "incrbyfloat" or not (isinstance(ours, bytes) and isinstance(theirs, bytes)):
        return False
    ours, theirs = float(ours), float(theirs)
    return abs(ours - theirs) <= 1e-15 * max(abs(ours), abs(theirs), 1)


KNOWN_DIFFERENCES = [
    close_in_time,
    order_of_keys,
    scan_in_one_go,
    any_key,
    no_argument_in_errors,
    bits_as_in_7_2,
    expired_are_counted,
    own_dump,
    exact_sums,
]


def is_fine(command, ours, theirs):
    return (type(ours), ours) == (type(theirs), theirs) or any(
        rule(command, ours, theirs) for rule in KNOWN_DIFFERENCES
    )


# Random commands.

KEYS = [b"a", b"b", b"c", b"d", b"number", b"", b"\0\xff\r\n", b"a*[b]", b"k" * 300]
DATABASES = [b"0", b"0", b"0", b"1", b"2", b"15"]
WRONG_NUMBERS = [b"", b"abc", b"1.5", b" 1", b"1 ", b"+1", b"-0", b"01", b"9223372036854775808", b"0x1"]
INTEGERS = [b"%d" % n for n in (0, 1, -1, 2, 3, 5, -5, 7, 8, 9, 10, -10, 64, 100, -100, 2**31, 2**63 - 1, -(2**63))]
# None between what is cheap and what is refused.
OFFSETS = [b"%d" % n for n in (0, 0, 1, 3, 5, 7, 8, 9, 15, 16, 31, 63, 100, 777, -1, -8, 2**32, 2**40, 2**63 - 1)]
FRACTIONS = [b"0.1", b"0.2", b"-0.3", b"3.0e3", b"1e-2", b".5", b"5.", b"-1.25E+1", b"0", b"-0", b"10.50", b"+7"]
WRONG_FRACTIONS = [b"", b"abc", b"nan", b"inf", b"-infinity", b" 1", b"1 ", b"1e", b"1.2.3", b"--1", b"1e5000", b"1e-5000"]
SECONDS = [b"100", b"5000", b"1000000", b"9223372036854775", b"9223372036854776", b"9223372036854775807", b"0", b"-1"]
WORDS = [b"NX", b"XX", b"GT", b"LT", b"GET", b"KEEPTTL", b"PERSIST", b"REPLACE", b"DB", b"LEN", b"IDX", b"BIT", b"BYTE"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now = int(time.time())

    def pick(self, values):
        return self.random.choice(values)

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def key(self):
        return self.pick(KEYS) if self.chance(92) else b"none%d" % self.random.randrange(5)

    def integer(self):
        if self.chance(8):
            return self.pick(WRONG_NUMBERS)
        return self.pick(INTEGERS) if self.chance(60) else b"%d" % self.random.randint(-1000, 1000)

    def small(self):
        if self.chance(5):
            return self.pick(WRONG_NUMBERS + INTEGERS)
        return b"%d" % self.random.randint(-40, 40)

    def offset(self):
        return self.pick(WRONG_NUMBERS) if self.chance(5) else self.pick(OFFSETS)

    def fraction(self):
        if self.chance(10):
            return self.pick(WRONG_FRACTIONS)
        return self.pick(FRACTIONS + INTEGERS[:8]) if self.chance(70) else b"%.6f" % self.random.uniform(-1e4, 1e4)

    def value(self):
        kind = self.random.randrange(8)
        if kind == 0:
            return self.pick(INTEGERS)
        if kind == 1:
            return self.pick(FRACTIONS + WRONG_FRACTIONS + WRONG_NUMBERS)
        if kind == 2:
            return bytes(self.random.randrange(256) for _ in range(self.random.randrange(40)))
        if kind == 3:
            return self.pick([b"\0", b"\xff", b"ab"]) * self.random.randrange(120)
        if kind == 4:
            return b"x" * self.pick([0, 1, 43, 44, 45, 300])
        return bytes(self.pick(b"abcd") for _ in range(self.random.randrange(20)))

    def words(self, *choices, most=2):
        words = [self.pick(choices) for _ in range(self.random.randrange(most + 1))]
        return [self.pick([word, word.lower()]) for word in words]

    def time(self, absolute):
        if self.chance(8):
            return self.pick(WRONG_NUMBERS)
        if absolute and self.chance(60):
            return b"%d" % (self.now + self.random.randint(1000, 100000))
        return self.pick(SECONDS)

    def expiry(self):
        """An option of SET or GETEX."""
        name = self.pick([b"EX", b"PX", b"EXAT", b"PXAT"])
        absolute = name.endswith(b"AT")
        amount = self.time(absolute)
        if name.startswith(b"P") and amount.isdigit() and len(amount) < 15:
            amount += b"000"
        return [name, amount] if self.chance(95) else [name]

    def encoding(self):
        if self.chance(6):
            return self.pick([b"u64", b"i65", b"u0", b"x8", b"8", b"", b"i", b"u-1", b"I8"])
        return self.pick([b"u", b"i"]) + b"%d" % self.pick([1, 2, 3, 5, 7, 8, 9, 13, 16, 31, 32, 33, 62, 63])

    def bitfield(self, reads_only):
        words = []
        for _ in range(self.random.randrange(5)):
            kind = self.random.randrange(4)
            place = [self.encoding(), self.pick([b"", b"", b"#"]) + self.offset()]
            if place[1].startswith(b"#") and len(place[1]) > 4:
                place[1] = b"#7"
            if kind == 0 or reads_only and self.chance(90):
                words += [b"GET", *place]
            elif kind == 1:
                # Redis saturates the smallest number of 64 bits at the largest of fewer bits: its sum overflows.
                words += [b"SET", *place, self.integer().replace(b"%d" % -(2**63), b"-9000000")]
            elif kind == 2:
                words += [b"INCRBY", *place, self.integer()]
            else:
                words += [b"OVERFLOW", self.pick([b"WRAP", b"SAT", b"FAIL", b"wrap", b"sat", b"fail", b"NONE"])]
        return words

    def command(self):
        command = self.plain_command()
        if self.chance(3) and len(command) > 1:
            command.pop(self.random.randrange(1, len(command)))
        if self.chance(3):
            command.insert(self.random.randint(1, len(command)), self.pick(WORDS))
        if self.is_large(command):
            return [b"PING"]
        return command

    @staticmethod
    def is_large(command):
        """What a lost or an additional word has turned into half a gigabyte, in one of the two or in both."""
        name = name_of(command)
        places = [word.lstrip(b"#") for word in command[1:]]
        numbers = [int(word) for word in places if re.fullmatch(rb"\d{1,19}", word)]
        return name in ("setbit", "setrange", "bitfield") and any(100_000 < number < 2**32 for number in numbers[:1]) or (
            name == "bitfield" and any(100_000 < number < 2**35 for number in numbers)
        )

    def plain_command(self):
        r, key = self.random, self.key()
        simple = [
            lambda: [b"GET", key],
            lambda: [b"SET", key, self.value()],
            lambda: [b"SET", key, self.value(), *self.words(b"NX", b"XX", b"GET", b"KEEPTTL", b"BAD")],
            lambda: [b"SET", key, self.value(), *self.words(b"NX", b"XX", b"GET", b"KEEPTTL"), *self.expiry()],
            lambda: [b"SET", key, self.value(), *self.expiry(), *self.words(b"NX", b"XX", b"GET", b"KEEPTTL")],
            lambda: [b"SETNX", key, self.value()],
            lambda: [b"SETEX", key, self.time(False), self.value()],
            lambda: [b"PSETEX", key, self.time(False) + b"000", self.value()],
            lambda: [b"GETSET", key, self.value()],
            lambda: [b"GETDEL", key],
            lambda: [b"GETEX", key],
            lambda: [b"GETEX", key, *self.expiry(), *self.words(b"PERSIST", b"NX", most=1)],
            lambda: [b"GETEX", key, *self.words(b"PERSIST", b"KEEPTTL")],
            lambda: [b"APPEND", key, self.value()],
            lambda: [b"STRLEN", key],
            lambda: [self.pick([b"GETRANGE", b"SUBSTR"]), key, self.small(), self.small()],
            lambda: [b"SETRANGE", key, self.offset(), self.value()],
            lambda: [b"MGET", *(self.key() for _ in range(r.randrange(4)))],
            lambda: [b"MSET", *(word for _ in range(r.randrange(4)) for word in (self.key(), self.value()))],
            lambda: [b"MSETNX", *(word for _ in range(r.randrange(3)) for word in (self.key(), self.value()))],
            lambda: [self.pick([b"INCR", b"DECR"]), self.pick([b"number", key])],
            lambda: [self.pick([b"INCRBY", b"DECRBY"]), self.pick([b"number", key]), self.integer()],
            lambda: [b"LCS", key, self.key(), *self.words(b"LEN", b"IDX", b"WITHMATCHLEN", b"BAD")],
            lambda: [b"LCS", key, self.key(), b"IDX", b"MINMATCHLEN", self.small(), *self.words(b"WITHMATCHLEN")],
            lambda: [self.pick([b"DEL", b"UNLINK", b"EXISTS", b"TOUCH"]), *(self.key() for _ in range(r.randrange(4)))],
            lambda: [b"TYPE", key],
            lambda: [b"RENAME", key, self.key()],
            lambda: [b"RENAMENX", key, self.key()],
            lambda: [b"COPY", key, self.key(), *self.words(b"REPLACE", b"BAD", most=1)],
            lambda: [b"COPY", key, self.key(), b"DB", self.pick([*DATABASES, b"16", b"x", b"99999999999"]), *self.words(b"REPLACE")],
            lambda: [b"MOVE", key, self.pick([*DATABASES, b"16", b"-1", b"x", b"99999999999"])],
            lambda: [b"SELECT", self.pick([*DATABASES, *DATABASES, b"16", b"-1", b"x", b"99999999999"])],
            lambda: [b"SWAPDB", self.pick([*DATABASES, b"x"]), self.pick([*DATABASES, b"16", b"x"])],
            lambda: [b"RANDOMKEY"],
            lambda: [b"DBSIZE"],
            lambda: [b"KEYS", self.pick([b"*", b"a*", b"?", b"[a-c]", b"[^a]", b"k*k", b"a\\*\\[b]", b"", b"n*", b"*\xff*"])],
            lambda: [b"SCAN", b"0", b"COUNT", b"1000", *self.pick([[], [b"MATCH", b"[a-d]"], [b"TYPE", b"string"], [b"TYPE", b"list"]])],
            lambda: [self.pick([b"EXPIRE", b"PEXPIRE"]), key, self.time(False), *self.words(b"NX", b"XX", b"GT", b"LT", b"BAD")],
            lambda: [b"EXPIREAT", key, self.time(True), *self.words(b"NX", b"XX", b"GT", b"LT")],
            lambda: [b"PEXPIREAT", key, self.time(True) + b"000", *self.words(b"NX", b"XX", b"GT", b"LT")],
            lambda: [self.pick([b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"]), key],
            lambda: [b"PERSIST", key],
            lambda: [b"SETBIT", key, self.offset(), self.pick([b"0", b"1", b"1", b"2", b"x"])],
            lambda: [b"GETBIT", key, self.offset()],
            lambda: [b"BITCOUNT", key],
            lambda: [b"BITCOUNT", key, self.small(), self.small(), *self.words(b"BIT", b"BYTE", b"BAD", most=1)],
            lambda: [b"BITPOS", key, self.pick([b"0", b"1", b"2", b"x"])],
            lambda: [b"BITPOS", key, self.pick([b"0", b"1"]), self.small()],
            lambda: [b"BITPOS", key, self.pick([b"0", b"1"]), self.small(), self.small(), *self.words(b"BIT", b"BYTE", b"BAD", most=1)],
            lambda: [b"BITOP", self.pick([b"AND", b"OR", b"XOR", b"and", b"BAD"]), key, *(self.key() for _ in range(r.randint(1, 4)))],
            lambda: [b"BITOP", b"NOT", key, *(self.key() for _ in range(r.randint(1, 2)))],
            lambda: [b"BITFIELD", key, *self.bitfield(False)],
            lambda: [b"BITFIELD", key, *self.bitfield(False)],
            lambda: [b"BITFIELD_RO", key, *self.bitfield(True)],
            lambda: [b"OBJECT", self.pick([b"FREQ", b"BAD"]), key],
            lambda: [b"MEMORY", b"USAGE", b"missing", *self.words(b"SAMPLES", b"5", b"-1", b"x")],
            lambda: [b"DUMP", key],
            lambda: [b"RESTORE", key, self.pick([b"0", b"-1", b"x", b"5000000"]), self.pick([b"", b"short", b"x" * 30, DUMP_OF_1815]), *self.words(b"REPLACE", b"ABSTTL", b"BAD")],
            lambda: [b"RESTORE", key, b"0", DUMP_OF_1815, *self.pick([[b"IDLETIME", self.small()], [b"FREQ", self.integer()], [b"FREQ", b"1", b"IDLETIME", b"1"]])],
            lambda: [b"FLUSHDB", *self.words(b"ASYNC", b"SYNC", b"BAD", most=1)] if self.chance(10) else [b"ECHO", key],
            lambda: [b"FLUSHALL"] if self.chance(5) else [b"PING"],
        ]
        return self.pick(simple)()

    def transaction(self):
        """MULTI to EXEC or DISCARD, with what is refused inside now and then."""
        commands = [[b"WATCH", self.key()]] if self.chance(20) else []
        commands.append([b"MULTI"])
        for _ in range(self.random.randrange(8)):
            if self.chance(2):
                commands.append(self.pick([[b"MULTI"], [b"WATCH", b"a"], [b"NOSUCHCOMMAND"], [b"GET"], [b"SAVE"]]))
            else:
                commands.append(self.command())
        commands.append([b"DISCARD"] if self.chance(10) else [b"EXEC"])
        return commands


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc


def with_version(dump, version):
    """The same dump, as if another version of Redis had made it."""
    body = dump[:-10] + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


DUMP_OF_1815 = with_version(b"\x00\xc1\x17\x07" + bytes(10), 10)


# Both servers side by side.


class Pair:
    def __init__(self, ours, theirs):
        self.ours, self.theirs = Connection(*ours), Connection(*theirs)
        self.compared, self.history, self.queued = 0, [], []

    def play(self, commands):
        """Sends the commands to both and compares their replies."""
        self.ours.send(commands)
        self.theirs.send(commands)
        for command in commands:
            ours, theirs = self.ours.reply(), self.theirs.reply()
            self.history.append(command)
            self.compared += 1
            self.compare(command, ours, theirs)

    def compare(self, command, ours, theirs):
        name = name_of(command)
        if name == "multi" and not isinstance(ours, Error):
            self.queued = []
        elif ours == theirs == "QUEUED":
            self.queued.append(command)
        elif name == "exec" and isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            for queued, one, other in zip(self.queued, ours, theirs):
                self.compare(queued, one, other)
            return
        if name == "nosuchcommand" and isinstance(ours, Error) and isinstance(theirs, Error):
            return
        if not is_fine(command, ours, theirs):
            recent = "\n".join(f"    {shown(command)}" for command in self.history[-25:])
            raise AssertionError(
                f"{shown(command)}\n  PugDB: {ours!r}\n  Redis: {theirs!r}\n  the commands before:\n{recent}"
            )

    def compare_databases(self):
        for database in range(16):
            self.play([[b"SELECT", b"%d" % database]])
            keys, counted = sorted(self.theirs.call("KEYS", "*")), self.ours.call("DBSIZE")
            if counted != len(keys):
                raise AssertionError(f"DBSIZE of database {database}: {counted}, but there are {len(keys)} keys")
            self.play([[name, key] for key in keys for name in (b"GET", b"PTTL", b"TYPE")])


def shown(command):
    return " ".join(repr(word if len(word) <= 60 else word[:60] + b"...")[1:] for word in command)


def random_commands(pair, generator, count):
    end = pair.compared + count
    while pair.compared < end:
        batch = [generator.command() for _ in range(generator.random.randint(1, 25))]
        pair.play(batch)
        if generator.chance(25):
            pair.play(generator.transaction())
        if generator.chance(10):
            # Something expires, and is gone for every command.
            pair.play([[b"PEXPIRE", generator.key(), b"1"], [b"SET", generator.key(), b"1", b"PX", b"1"]])
            time.sleep(0.005)
    pair.compare_databases()


def watches(pair, others, generator, count):
    """WATCH, then another client's command, then a transaction: it runs on both or on neither."""
    for _ in range(count):
        database = generator.pick(DATABASES)
        pair.play([[b"SELECT", database], [b"SET", b"w", b"1"], [b"DEL", b"gone"]])
        others.play([[b"SELECT", database]])
        pair.play([[b"WATCH", generator.pick([b"w", b"gone", b"other"])]])
        others.play(
            generator.pick(
                [
                    [[b"SET", b"w", b"1"]],
                    [[b"GET", b"w"], [b"SETNX", b"w", b"1"], [b"EXISTS", b"gone"]],
                    [[b"DEL", b"gone"], [b"DEL", b"nothing"]],
                    [[b"DEL", b"w"], [b"SET", b"w", b"1"]],
                    [[b"SET", b"gone", b"1"], [b"DEL", b"gone"]],
                    [[b"PERSIST", b"w"], [b"EXPIRE", b"nothing", b"5"]],
                    [[b"EXPIRE", b"w", b"500"]],
                    [[b"FLUSHDB"]],
                    [[b"FLUSHALL"]],
                    [[b"SWAPDB", database, b"9"]],
                    [[b"SWAPDB", b"10", b"11"]],
                    [[b"RENAME", b"w", b"gone"]],
                    [[b"COPY", b"w", b"gone"]],
                    [[b"MOVE", b"w", b"9"]],
                    [[b"APPEND", b"w", b"x"]],
                    [[b"SETBIT", b"w", b"3", b"1"], [b"INCRBYFLOAT", b"other", b"0.5"]],
                    [[b"MULTI"], [b"INCR", b"w"], [b"EXEC"]],
                    [[b"MULTI"], [b"INCR", b"w"], [b"DISCARD"]],
                ]
            )
        )
        between = generator.pick([[], [], [[b"UNWATCH"]], [[b"GET", b"w"]], [[b"SET", b"w", b"2"]]])
        pair.play([*between, [b"MULTI"], [b"SET", b"ran", b"1"], [b"APPEND", b"w", b"y"], [b"EXEC"], [b"GET", b"w"]])


def sums(pair, generator, count):
    """INCRBYFLOAT: each on a key of its own, for after a difference in the last digits all would differ."""
    for _ in range(count):
        key, first, second = b"sum", generator.fraction(), generator.fraction()
        pair.play([[b"SET", key, first, b"EX", b"1000"], [b"INCRBYFLOAT", key, second], [b"TTL", key], [b"DEL", key]])
        pair.play([[b"INCRBYFLOAT", key, second], [b"DEL", key]])
    # Small numbers of few digits have to be equal to the byte: Redis sees beyond the 17th place of those too.
    for _ in range(count):
        one, other = (b"%.*f" % (places, generator.random.uniform(-4, 4)) for places in (3, 5))
        replies = [side.call("SET", "sum", one) and side.call("INCRBYFLOAT", "sum", other) for side in (pair.ours, pair.theirs)]
        if replies[0] != replies[1]:
            raise AssertionError(f"{one} + {other}: PugDB {replies[0]!r}, Redis {replies[1]!r}")


def dumps(pair, generator, count):
    """What one has dumped the other restores."""
    for _ in range(count):
        value = generator.value() if generator.chance(80) else generator.value() * 400
        for side in (pair.ours, pair.theirs):
            side.call("SET", "dump", value)
        ours, theirs = pair.ours.call("DUMP", "dump"), pair.theirs.call("DUMP", "dump")
        replies = [
            pair.ours.call("RESTORE", "restored", "0", theirs, "REPLACE"),
            pair.theirs.call("RESTORE", "restored", "0", with_version(ours, 10), "REPLACE"),
            pair.ours.call("GET", "restored"),
            pair.theirs.call("GET", "restored"),
        ]
        if replies != ["OK", "OK", value, value]:
            raise AssertionError(f"a dump of {value!r} ends as {replies!r}")
        encodings = [side.call("OBJECT", "ENCODING", "dump") for side in (pair.ours, pair.theirs)]
        if encodings[0] != encodings[1]:
            raise AssertionError(f"the encoding of {value!r}: PugDB {encodings[0]!r}, Redis {encodings[1]!r}")
        broken = bytearray(theirs)
        broken[generator.random.randrange(len(broken))] ^= 1 << generator.random.randrange(8)
        pair.play([[b"RESTORE", b"broken", b"0", bytes(broken)], [b"EXISTS", b"broken"]])


def start_redis(directory):
    """A redis-server on a free port, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", str(port), "--dir", directory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, port
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError("redis-server does not start") from None
            time.sleep(0.02)


def run(host, port, redis_port, seed, count):
    ours, theirs = (host, port), ("127.0.0.1", redis_port)
    compared = 0
    for protocol in (2, 3):
        generator = Generator(f"{seed}/{protocol}")
        pair, others = Pair(ours, theirs), Pair(ours, theirs)
        for side in (pair.ours, pair.theirs, others.ours, others.theirs):
            side.call("HELLO", protocol)
            side.call("FLUSHALL")
        random_commands(pair, generator, count // 2)
        watches(pair, others, generator, count // 60)
        sums(pair, generator, count // 60)
        dumps(pair, generator, count // 60)
        pair.compare_databases()
        compared += pair.compared + others.compared
    return compared


def main():
    if not shutil.which("redis-server"):
        print("there is no redis-server to compare with")
        return 77
    host, port = sys.argv[1], int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 72
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 6000
    with tempfile.TemporaryDirectory() as directory:
        process, redis_port = start_redis(directory)
        try:
            compared = run(host, port, redis_port, seed, count)
        except AssertionError as error:
            print(f"seed {seed}: {error}", file=sys.stderr)
            print(f"again: {os.path.basename(__file__)} {host} {port} {seed} {count}", file=sys.stderr)
            return 1
        finally:
            process.terminate()
            process.wait()
    print(f"{compared} replies are the same (seed {seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
