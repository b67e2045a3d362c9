"""Reads and runs tests/clients/cases, on redis-py's own connections. What the files say is in cases/README.md."""

import re
import time
from pathlib import Path

import redis
from redis.connection import Connection

FOLDER = Path(__file__).parent.parent / "cases"
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
ERRORS = (redis.ResponseError, redis.AuthenticationError)
# Where redis-py has a class for an error's first word, it takes the word off the text.
WORDS = {redis.exceptions.ExecAbortError: "EXECABORT", redis.exceptions.NoScriptError: "NOSCRIPT"}


def words(line, kept):
    """The words of a command as bytes."""
    found, place = [], 0
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"(?:\s+|$)|<([^>]+)>(?:\s+|$)|(\S+)(?:\s+|$)', line):
        if match.start() != place:
            break
        place = match.end()
        quoted, special, plain = match.groups()
        if quoted is not None:
            text = re.sub(r"\\x([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), re.sub(
                r"\\([nrt\\\"])", lambda m: f"\\x{ord(ESCAPES.get(m[1], m[1])):02x}", quoted))
            found.append(text.encode("latin-1"))
        elif special is not None:
            found.append(expand(special, kept))
        else:
            found.append(plain.encode())
    if place != len(line):
        raise SyntaxError(f"cannot read {line!r}")
    return found


def expand(special, kept):
    if match := re.fullmatch(r"(now|nowms)([+-]\d+)", special):
        now = int(time.time() * (1000 if match[1] == "nowms" else 1))
        return str(now + int(match[2])).encode()
    if match := re.fullmatch(r"(\d+)\*(.+)", special):
        return words(f'"{match[2]}"', kept)[0] * int(match[1])
    return kept[special]


def render(reply):
    """A reply in the notation of the cases."""
    if reply is None:
        return "nil"
    if isinstance(reply, ERRORS):
        text = str(reply)
        return f"!{WORDS[type(reply)]} {text}" if type(reply) in WORDS else f"!{text}"
    if isinstance(reply, (bytes, str)):
        data = reply.encode() if isinstance(reply, str) else reply
        return '"' + "".join(map(render_byte, data)) + '"'
    if isinstance(reply, int):
        return str(int(reply))
    return f"[{' '.join(map(render, flat(reply)))}]"


def render_byte(byte):
    special = {10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 92: "\\\\"}
    return special.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")


def flat(reply):
    if isinstance(reply, dict):
        return [part for pair in reply.items() for part in pair]
    return list(reply)


def holds(expected, reply, kept):
    """Whether a reply is as a line of the cases says."""
    verb, _, rest = expected.partition(" ")
    got = render(reply)
    if verb == "=":
        return plain(got) == plain(rest)
    if verb == "~":
        pattern = ".*".join(map(re.escape, plain(rest).split("*")))
        return re.fullmatch(pattern, plain(got), re.DOTALL) is not None
    if verb == "..":
        low, high = (int(bound) for bound in words(rest, kept))
        return isinstance(reply, int) and low <= reply <= high
    if verb == "sorted":
        return isinstance(reply, (list, set)) and f"[{' '.join(sorted(map(render, reply)))}]" == rest
    raise SyntaxError(f"no such expectation: {expected!r}")


def plain(text):
    """redis-py takes these words off the text of errors; the other two programs see that they are there."""
    for word in ("ERR", "WRONGPASS", "NOPERM"):
        text = text.replace(f"!{word} ", "!")
    return text


class Runner:
    """Runs the files on a server; `differences` holds what was not as they say."""

    def __init__(self, host, port, protocol, server, version):
        self.server, self.version = server, version
        self.address = {"host": host, "port": port, "protocol": protocol, "socket_timeout": 60}
        self.connections, self.kept, self.differences, self.count = {}, {}, [], 0

    def call(self, connection, arguments):
        if connection not in self.connections:
            self.connections[connection] = Connection(**self.address)
            self.connections[connection].connect()
        used = self.connections[connection]
        used.send_command(*arguments)
        try:
            reply = used.read_response(disconnect_on_error=False)
            if arguments[0].upper() == b"RESET" and self.address["protocol"] == 3:
                # RESET goes back to RESP2, whose nil the library's reader of RESP3 does not know.
                used.send_command("HELLO", 3)
                used.read_response(disconnect_on_error=False)
            return reply
        except ERRORS as error:
            if isinstance(error, redis.ConnectionError):
                # redis-py would read the same reply again, and closes such a connection itself.
                self.connections.pop(connection).disconnect()
            return error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self.connections.pop(connection).disconnect()
            return redis.ResponseError(f"(no reply: {error})")

    def begin_section(self, title):
        """Whether the section is to be run."""
        self.close()
        left_out = (
            "(pugdb)" in title and self.server != "pugdb"
            or "(7.2)" in title and self.version < (7, 2)
        )
        if not left_out:
            self.call("a", [b"FLUSHALL"])
        return not left_out

    def run_all(self, update=False):
        for path in sorted(FOLDER.glob("*.txt")):
            lines = path.read_text().splitlines()
            written = self.run(path.name, lines)
            if update:
                path.write_text("\n".join(written) + "\n")
        self.begin_section("")
        self.close()

    def close(self):
        for connection in self.connections.values():
            connection.disconnect()
        self.connections.clear()

    def run(self, name, lines):
        """Runs the lines of a file, and returns them with the replies filled in that were not there."""
        written, place, running = [], 0, False
        while place < len(lines):
            line = lines[place]
            written.append(line)
            place += 1
            if line.startswith("## "):
                running = self.begin_section(line)
            elif line.startswith("wait ") and running:
                time.sleep(int(line[5:]) / 1000)
            if not line or line.startswith(("#", "wait ")):
                continue
            expected = []
            while place < len(lines) and re.match(r"(=|~|\.\.|sorted|save|redis|pugdb)( |$)", lines[place]):
                expected.append(lines[place])
                place += 1
            if running:
                expected = self.step(f"{name}:{place}", line, expected)
            written += expected
        return written

    def step(self, where, line, expected):
        connection, command = (line[0], line[3:]) if line[1:3] == "> " else ("a", line)
        reply = self.call(connection, words(command, self.kept))
        mine = [e.partition(" ")[2] for e in expected if e.startswith(self.server)] or [
            e for e in expected if not e.startswith(("redis ", "pugdb "))]
        self.count += 1
        if not mine:
            others = [f"{other}" for other in expected]
            return ([f"redis = {render(reply)}"] if others else [f"= {render(reply)}"]) + others
        if mine[0].startswith("save "):
            self.kept[mine[0][5:]] = reply if isinstance(reply, bytes) else str(reply).encode()
        elif mine[0] == "sorted":
            return [f"sorted [{' '.join(sorted(map(render, reply)))}]"]
        elif not holds(mine[0], reply, self.kept):
            self.differences.append(f"{where}: {line[:200]}\n    expected {mine[0][:2000]}\n    got      {render(reply)[:2000]}")
        return expected
