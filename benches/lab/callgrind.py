"""Instructions that a proxy executes for a request, counted by valgrind's callgrind.

The proxy runs under callgrind with one worker; a client of our own sends it requests one after the other on one
connection. When the connection has had its first requests, the count is set to nothing; after so many more it is written
out. So start, end and what is made once are not in it, and neither the neighbours of the machine nor its frequency make
a difference: two runs agree within a hundredth. What the kernel does is not counted.
"""

import re
import subprocess
import threading
from collections import Counter
from pathlib import Path

from . import peers, wire
from .processes import ROOT, Process, free_ports

WARM = 200

STANDARD_LIBRARY = "the standard library, inlined everywhere"
OURS = {path.stem for path in (ROOT / "src").iterdir()}


class Origin:
    """A server of our own, in threads of the bench: what it costs is not counted."""

    def __init__(self):
        self.asked = 0
        self.listener = wire.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=wire.serve, args=(connection, self.count), daemon=True).start()

    def count(self):
        self.asked += 1

    def end(self):
        self.listener.close()


class Counted:
    """A proxy under callgrind."""

    def __init__(self, directory, tidegate, config, port):
        self.directory, self.dumps = directory, 0
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/callgrind.out",
                   f"--vgdb-prefix={directory}/vgdb", tidegate, "run", "--config", config]  # fmt: skip
        self.process = Process("callgrind", None, command, directory / "callgrind.log")
        self.started = self.process.await_port(port, seconds=600)

    def tell(self, *command):
        # Without --max-invoke-ms=0 vgdb would use ptrace to wake a process that sleeps, which containers may not allow. This one
        # wakes by itself, for its timers.
        words = ["vgdb", "--max-invoke-ms=0", f"--vgdb-prefix={self.directory}/vgdb", f"--pid={self.process.child.pid}", *command]
        said = subprocess.run(words, capture_output=True, text=True, timeout=120)
        if said.returncode != 0:
            raise SystemExit(f"{' '.join(words)}:\n{said.stdout}{said.stderr}")

    def count(self, ask, requests):
        """What so many requests cost, each: in all, and by source file."""
        for _ in range(WARM):
            ask()
        self.tell("zero")
        for _ in range(requests):
            ask()
        self.tell("dump")
        self.dumps += 1
        files = by_file(self.directory / f"callgrind.out.{self.dumps}")
        return sum(files.values()) / requests, {file: cost / requests for file, cost in files.items()}

    def end(self):
        self.process.end()


def by_file(path):
    """A dump's cost by source file (of what was inlined: its own), or by object where no file is known."""
    names, costs = {}, Counter()
    current = {"ob": "", "fl": ""}
    is_call = False
    with open(path, encoding="utf-8", errors="replace") as dump:
        for line in dump:
            if is_call:
                # What a call costs counts where it is spent.
                is_call = False
                continue
            if line.startswith("calls="):
                is_call = True
            elif line[:1] in "+-*" or line[:1].isdigit():
                words = line.split()
                if len(words) > 1:
                    costs[where(current)] += int(words[-1])
            elif named := re.match(r"(c?)(fl|fi|fe|ob)=(?:\((\d+)\))?\s*(.*)", line):
                kind = "ob" if named.group(2) == "ob" else "fl"
                number, name = named.group(3), named.group(4)
                if number and name:
                    names[kind, number] = name
                if not named.group(1):
                    current[kind] = names.get((kind, number), name)
    return costs


def where(current):
    return current["fl"] if current["fl"] not in ("", "???") else current["ob"]


def room(file):
    """Which part of the program a source file belongs to."""
    if found := re.search(r"/registry/src/[^/]+/(.+?)-\d+\.\d+[^/]*/", file):
        return found.group(1)
    if "/rustc/" in file or "/library/" in file or "/rust/deps/" in file:
        return STANDARD_LIBRARY
    if "/aws-lc/" in file:
        return "aws-lc"
    if re.search(r"/mem(move|cpy)\b[^/]*$", file):
        return "copying bytes (libc)"
    if "/sysdeps/" in file or file.startswith("./") or re.search(r"/lib[cm][-.][^/]*$", file):
        return "libc"
    if (found := re.search(r"(?:^|/)src/(\w+)(?:/|\.rs$)", file)) and found.group(1) in OURS:
        return f"`{found.group(1)}`"
    return "without a source" if file.endswith("tidegate") else Path(file).name


def by_room(files):
    costs = Counter()
    for file, cost in files.items():
        costs[room(file)] += cost
    return costs


def configure(directory, to):
    """The configuration of the comparison, for a server at this port; its path and its ports."""
    ports = dict(zip(("plain", "h2c", "tls", "cache", "churn", "admin"), free_ports(6)))
    text = (peers.TEMPLATES / "tidegate.toml").read_text()
    path = directory / "tidegate.toml"
    path.write_text(peers.filled(text, {**ports, "to": to, "dir": directory}))
    return path, ports
