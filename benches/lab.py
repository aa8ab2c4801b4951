"""What the comparisons have in common: programs, ports, processes of ours, and how oha is asked."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent


def program(name):
    """Where a program is; daemons are not always in a user's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def free_ports(count):
    """Ports that are free now; all are held until the last is found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Process:
    """A process of ours on one core, with its children."""

    def __init__(self, name, core, command, log):
        self.name, self.log = name, log
        with open(log, "wb") as out:
            pinned = ["taskset", "-c", str(core), *map(str, command)]
            self.child = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def await_port(self, port):
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{self.name} did not start:\n{Path(self.log).read_text(errors='replace')[-2000:]}")

    def cpu_seconds(self):
        """User and system time of the process and its descendants, all their threads included."""
        parents, ticks = {}, {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                # The name in parentheses may hold spaces; what follows it does not.
                fields = Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1])
            ticks[int(entry)] = int(fields[11]) + int(fields[12])
        ours, found = set(), {self.child.pid}
        while found:
            ours |= found
            found = {pid for pid, parent in parents.items() if parent in found} - ours
        return sum(ticks.get(pid, 0) for pid in ours) / TICK

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def nginx_head(directory, name):
    paths = "".join(
        f"{kind}_temp_path {directory}/{name}-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root its workers would become another user and not read the temporary directory.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""daemon off; {user} worker_processes 1; pid {directory}/{name}.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
{paths} access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
"""


def oha(url, *options, seconds):
    """What oha says of a run on core 1, as it says it in JSON."""
    # The flag for JSON changed its name.
    knows = subprocess.run(["oha", "--help"], capture_output=True, text=True, timeout=10).stdout
    form = ["--output-format", "json"] if "--output-format" in knows else ["-j"]
    command = ["taskset", "-c", "1", "oha", "--no-tui", "--insecure", *form, *map(str, options), url]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
    return json.loads(said)
