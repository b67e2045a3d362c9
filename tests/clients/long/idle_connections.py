#!/usr/bin/env python3
"""Very many idle connections: what each costs, a clear refusal at the limit, and that it is used again.

Usage: PUGDB=target/release/pugdb idle_connections.py [COUNT]. Not a part of CI.

The server is a process of its own, whose limit is COUNT (default 10,000; fewer where the system allows fewer open files)
plus one for the question how many there are. Ends with 1 when a figure or a reply is not as it should be.
"""

import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time

COUNT = 10_000
ROUNDS = 4
# For everything else that a process has open.
SPARE_FILES = 200
# Three times what was measured when this was written.
BYTES_PER_CONNECTION_MAX = 24 << 10
REFUSAL = b"-ERR max number of clients reached\r\n"


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    count = min(count, raise_file_limit(count + SPARE_FILES) - SPARE_FILES)
    print(f"idle_connections.py: {count} connections")
    with tempfile.TemporaryDirectory() as folder, Server(folder, count + 1) as server:
        failed = run(server, count)
    sys.exit(1 if failed else 0)


def raise_file_limit(wanted):
    """The limit of open files after raising it as far as is wanted and allowed; the server inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed < wanted:
        print(f"only {hard} open files are allowed here: fewer connections")
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)


class Server:
    def __init__(self, folder, clients):
        command = [os.environ["PUGDB"], "serve", "--data", f"{folder}/data", "--resp", "127.0.0.1:0", "--no-http",
                   "--max-clients", str(clients), "--no-encryption"]
        # With an arena for each thread, glibc takes new memory in one while another has enough: rounds would differ by
        # which thread accepted, and a leak could hide in that.
        environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stdout:
            if line.startswith("ready on "):
                self.port = int(line.partition(",")[0].rpartition(":")[2])
                return
        raise RuntimeError("the server did not become ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            if self.process.wait(timeout=60) != 0:
                raise RuntimeError(f"the server ended with code {self.process.returncode}")
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) << 10
        raise RuntimeError("the server has no VmRSS")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def talk(connection, data):
    """One command and its reply, which is one line or a bulk string."""
    connection.sendall(data)
    got = b""
    while not got.endswith(b"\r\n") or got[:1] == b"$" and len(got) < int(got[1:got.index(b"\r")]):
        more = connection.recv(65536)
        if not more:
            raise RuntimeError(f"the connection was closed after {got!r}")
        got += more
    return got


def connected_clients(asker):
    info = talk(asker, b"INFO clients\r\n")
    return int(info.partition(b"connected_clients:")[2].split()[0])


def run(server, count):
    failures = []

    def check(what, right):
        print(f"{'ok   ' if right else 'WRONG'} {what}")
        if not right:
            failures.append(what)

    with server.connect() as asker:
        # Whatever is made once is made before the measurement.
        for _ in range(100):
            with server.connect() as connection:
                talk(connection, b"PING\r\n")
        until(lambda: connected_clients(asker) == 1)
        before, files_before = server.resident_bytes(), server.open_files()

        heights = []
        for number in range(ROUNDS):
            heights.append(one_round(server, asker, count, before, check))
            if number == 0:
                files = server.open_files()
                check(f"open files are back: {files_before} before, {files} after", files <= files_before + 2)
        told = ", ".join(map(mib, heights))
        check(f"memory is used again: {told} at the height of each round", heights[-1] <= heights[0] * 1.05 + (1 << 20))
        print(f"      {mib(server.resident_bytes())} stay with the process for its next clients")
        with server.connect() as one:
            check("a new client is served", talk(one, b"SET after 1\r\n") == b"+OK\r\n")
    return failures


def one_round(server, asker, count, before, check):
    """Opens all connections, uses some, tries one more, closes all. Returns the resident memory at its height."""
    began = time.monotonic()
    connections = [server.connect() for _ in range(count)]
    # Its answer shows that the last one is served, and the ones before it.
    talk(connections[-1], b"PING\r\n")
    seconds = time.monotonic() - began
    check(f"{count} connections in {seconds:.1f} s, all counted", connected_clients(asker) == count + 1)
    idle = server.resident_bytes()
    each = (idle - before) / count
    check(f"idle, each takes {each:.0f} bytes of resident memory ({mib(before)} to {mib(idle)})", each <= BYTES_PER_CONNECTION_MAX)

    some = random.sample(connections, min(1000, count))
    began = time.monotonic()
    right = all(talk(connection, b"PING\r\n") == b"+PONG\r\n" for connection in some)
    check(f"{len(some)} of them answer PING, {1e6 * (time.monotonic() - began) / len(some):.0f} us each", right)
    right = all(talk(connection, b"SET key value\r\n") == b"+OK\r\n" for connection in some[:100])
    check(f"{len(some[:100])} of them SET", right)

    with server.connect() as one_more:
        check("one more is refused, and told why", read_to_end(one_more) == REFUSAL)
    connections.pop().close()
    until(lambda: connected_clients(asker) == count)
    with server.connect() as instead:
        check("when one has left, another may come", talk(instead, b"PING\r\n") == b"+PONG\r\n")
    height = server.resident_bytes()

    for connection in connections:
        connection.close()
    began = time.monotonic()
    gone = until(lambda: connected_clients(asker) == 1)
    check(f"all are gone {time.monotonic() - began:.1f} s after they closed", gone)
    return height


def read_to_end(connection):
    got = b""
    try:
        while more := connection.recv(65536):
            got += more
    except ConnectionResetError:
        pass
    return got


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def mib(size):
    return f"{size / (1 << 20):.1f} MiB"


if __name__ == "__main__":
    main()
