"""The programs that make requests. Each says how many were answered well, or ends the bench."""

import json
import re
import ssl
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .processes import LOAD_CORE, program

CONNECTIONS = 64
# Over HTTP/2: connections, and streams on each.
H2_CONNECTIONS, H2_STREAMS = 16, 32

# Processes that each open one connection after the other.
HANDSHAKES_AT_ONCE = 4

LUA = Path(__file__).with_name("wrk.lua")

# A response's head, generously.
HEAD_BYTES_MAX = 1024


@dataclass
class Ask:
    """What is asked for, again and again."""

    size: int
    body_bytes: int = 0
    # A connection for each request.
    closes: bool = False
    h2: bool = False
    # Which of very many, as lab/wrk.lua says it; only by wrk.
    choose: tuple = ()
    connections: int = CONNECTIONS


class Unsteady(SystemExit):
    """Something was answered wrongly, or not at all."""


# Longer than it was asked to run, and a generator hangs.
GRACE_SECONDS = 60


def pinned(*command, seconds):
    words = ["taskset", "-c", str(LOAD_CORE), *map(str, command)]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired as late:
        raise Unsteady(f"{' '.join(words)}: it did not end") from late
    if said.returncode != 0:
        raise Unsteady(f"{' '.join(words)}:\n{said.stdout[-2000:]}{said.stderr[-2000:]}")
    return said.stdout


def wrk(url, ask, seconds):
    how = ask.choose or (("post", ask.body_bytes) if ask.body_bytes else ("close",) if ask.closes else ("get",))
    said = pinned("wrk", "-t1", f"-c{ask.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", LUA, url, "--", *how,
                  seconds=seconds)  # fmt: skip
    counts = json.loads(re.search(r"^JSON (.*)$", said, re.MULTILINE).group(1))
    requests, received = max(counts["requests"], 1), counts["bytes"]
    # At the end of the time each connection may have had a part of another response.
    most = (ask.size + HEAD_BYTES_MAX) * (requests + ask.connections)
    if counts["errors"] or counts["statuses"] or not ask.size * requests <= received <= most:
        raise Unsteady(f"wrk {url}: {counts}\n{said}")
    return requests


def oha_json(url, *options, seconds):
    """What oha says of a run on the load's core, as it says it in JSON."""
    # The flag for JSON changed its name.
    knows = subprocess.run(["oha", "--help"], capture_output=True, text=True, timeout=10).stdout
    form = ["--output-format", "json"] if "--output-format" in knows else ["-j"]
    return json.loads(pinned("oha", "--no-tui", "--insecure", *form, *options, url, seconds=seconds))


def oha(url, ask, seconds):
    options = ["-z", f"{seconds}s"]
    options += ["--http2", "-c", H2_CONNECTIONS, "-p", H2_STREAMS] if ask.h2 else ["-c", ask.connections]
    options += ["-m", "POST", "-d", "x" * ask.body_bytes] if ask.body_bytes else []
    options += ["--disable-keepalive"] if ask.closes else []
    said = oha_json(url, *options, seconds=seconds)
    statuses, size = said["statusCodeDistribution"], said["summary"]["sizePerRequest"]
    # It stops at a deadline, and says so of what was then in flight.
    errors = {what: n for what, n in said.get("errorDistribution", {}).items() if "deadline" not in what}
    if set(statuses) != {"200"} or errors or size != ask.size:
        raise Unsteady(f"oha {url}: {statuses}, {errors}, {size} bytes each")
    return statuses["200"]


def h2load(url, ask, seconds):
    said = pinned("h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", "-D", seconds, url, seconds=seconds)
    counts = re.search(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    data = re.search(r"\((\d+)\) data", said)
    protocol = re.search(r"Application protocol: (\S+)", said)
    if not counts or not data or not protocol or not protocol.group(1).startswith("h2"):
        raise Unsteady(f"h2load {url}:\n{said}")
    done, good, *bad = map(int, counts.groups())
    most = ask.size * (good + H2_CONNECTIONS * H2_STREAMS)
    if not good or done != good or any(bad) or not ask.size * good <= int(data.group(1)) <= most:
        raise Unsteady(f"h2load {url}:\n{said}")
    return good


def s_time(url, ask, seconds):
    """A new connection and a full handshake for each request. wrk and oha resume TLS sessions, even with a connection for
    each request, and that costs less."""
    to = urlsplit(url)
    # It writes "GET ", this, and " HTTP/1.0"; so the version that counts is in here, and its own becomes a field.
    page = f"{to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nConnection: close\r\nX-Version:"
    command = ["openssl", "s_time", "-connect", to.netloc, "-new", "-time", seconds, "-www", page]
    with ThreadPoolExecutor(HANDSHAKES_AT_ONCE) as pool:
        runs = [pool.submit(pinned, *command, seconds=seconds) for _ in range(HANDSHAKES_AT_ONCE)]
        reports = [run.result() for run in runs]
    connections = 0
    for said in reports:
        count, size = map(int, re.search(r"(\d+) connections in .* real seconds, (\d+) bytes read", said).groups())
        if not count or not ask.size < size <= ask.size + HEAD_BYTES_MAX:
            raise Unsteady(f"s_time {url}: {count} answers of {size} bytes")
        connections += count
    return connections


LOADS = {"wrk": wrk, "h2load": h2load, "oha": oha, "s_time": s_time}
# How their programs are asked for their version.
PROGRAMS = {"wrk": ["wrk", "-v"], "h2load": ["h2load", "--version"], "oha": ["oha", "--version"],
            "s_time": ["openssl", "version"]}  # fmt: skip


def loads_present():
    return {name: load for name, load in LOADS.items() if program(PROGRAMS[name][0])}


def versions():
    """Of the programs that make requests."""
    found = {}
    for name in loads_present():
        said = subprocess.run(PROGRAMS[name], capture_output=True, text=True, timeout=10)
        found[PROGRAMS[name][0]] = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr).group(0)
    return found


def fetch(url, body_bytes=0):
    """One request of our own: its status and how long its body was."""
    context = ssl.create_default_context()
    # Our own certificate of a minute ago, on loopback.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(url, data=b"x" * body_bytes or None, timeout=10) as answer:
        return answer.status, len(answer.read())
