#!/usr/bin/env python3
"""`pugdb shell` as a person meets it, on a pseudo-terminal: completion, multi-line, Ctrl-C, tables, history.

Usage: shell_pty.py HOST PORT of a server that is changed. PUGDB is the binary.
"""

import fcntl
import os
import pty
import re
import select
import stat
import subprocess
import sys
import tempfile
import termios
import time

PUGDB = os.environ["PUGDB"]


def take_terminal():
    """Ctrl-C on the terminal reaches the shell."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Shell:
    def __init__(self, folder, *arguments):
        self.master, slave = pty.openpty()
        environment = dict(os.environ, XDG_STATE_HOME=os.path.join(folder, "state"), TERM="xterm", PUGDB_CONFIG="/dev/null")
        self.process = subprocess.Popen(
            [PUGDB, "shell", *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder,
            start_new_session=True, preexec_fn=take_terminal,
        )
        os.close(slave)
        self.seen = ""

    def expect(self, pattern):
        """Waits until the pattern is on the screen, and returns what came up to its end."""
        deadline = time.monotonic() + 20
        while True:
            # Colours, movements and switches of the terminal.
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
            found = re.search(pattern, text)
            if found:
                self.seen = text[found.end():]
                return text[: found.end()]
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"{pattern!r} does not come; seen: {text!r}")
            try:
                self.seen += os.read(self.master, 65536).decode()
            except OSError:
                raise AssertionError(f"the shell ended before {pattern!r}; seen: {text!r}") from None

    def send(self, keys):
        os.write(self.master, keys.encode())

    def run(self, line, pattern):
        self.send(line + "\r")
        return self.expect(pattern)

    def end(self):
        self.send("\x04")
        return self.process.wait(timeout=20)


def on_a_directory(folder):
    shell = Shell(folder)
    shell.expect("db0> ")
    shell.run("put user:ada 1815", "OK\r\n.*db0> ")
    shell.run("put user:bob 1920", "OK\r\n.*db0> ")
    # A command and a key, both by Tab.
    shell.send("ge\t")
    shell.expect("get ")
    shell.send("user:a\t")
    shell.expect("user:ada ")
    shell.run("", "1815\r\n.*db0> ")
    shell.run("scan user:", "key +│ value\r\n─+┼─+\r\nuser:ada │ 1815\r\nuser:bob │ 1920\r\n.*db0> ")
    # A quote that is open goes on in the next line.
    shell.send('put multi "one\r')
    shell.run('two"', "OK\r\n.*db0> ")
    shell.run("get multi", r"one\\ntwo" + "\r\n.*db0> ")
    # Ctrl-C clears the line and ends nothing.
    shell.send("delete user:ada\x03")
    shell.expect("db0> ")
    shell.run("exists user:ada", "1\r\n.*db0> ")
    shell.run(" put hidden secret", "OK\r\n.*db0> ")
    shell.run("gte", "did you mean get[^>]*db0> ")
    shell.run("use users", "users> ")
    assert shell.end() == 0
    history = os.path.join(folder, "state/pugdb/history")
    assert stat.S_IMODE(os.stat(history).st_mode) == 0o600
    with open(history) as lines:
        text = lines.read()
    assert "put user:ada 1815" in text and "secret" not in text, text
    # The history is there the next time.
    shell = Shell(folder)
    shell.expect("db0> ")
    shell.send("\x1b[A")
    shell.expect("use users")
    shell.send("\x03")
    shell.expect("db0> ")
    assert shell.end() == 0


def on_a_server(folder, host, port):
    shell = Shell(folder, "--url", f"redis://{host}:{port}", "--no-history")
    shell.expect("db0> ")
    shell.run("SET pty:a 1", "OK\r\n.*db0> ")
    shell.run("MGET pty:a pty:b", r'1\) "1"' + "\r\n" + r"2\) \(nil\)" + "\r\n.*db0> ")
    shell.send("GET pty:\t")
    shell.expect("pty:a ")
    shell.run("", '"1"\r\n.*db0> ')
    shell.run("NOSUCH", r"\(error\) ERR unknown command[^>]*db0> ")
    shell.run("use db1", "db1> ")
    shell.run("get pty:a", "no such key[^>]*db1> ")
    assert shell.end() == 0


def main():
    host, port = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        on_a_directory(folder)
        on_a_server(folder, host, port)
    print("the shell answers as it should")


main()
