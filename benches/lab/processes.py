"""Programs, ports and processes of ours: started on their cores, read through /proc, ended by their id."""

import os
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent.parent

# The proxy has the first to itself. Load, the servers behind it and the bench itself share the second.
PROXY_CORE, LOAD_CORE = 0, 1


def program(name):
    """Where a program is; daemons are not always in a user's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def need(*names):
    for name in names:
        if not program(name):
            raise SystemExit(f"{name} is needed")


def need_tidegate(path):
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is absent: cargo build --release")


def keep_to_load_core():
    """The bench itself stays off the proxy's core."""
    if len(os.sched_getaffinity(0) & {PROXY_CORE, LOAD_CORE}) < 2:
        raise SystemExit(f"cores {PROXY_CORE} and {LOAD_CORE} are needed")
    os.sched_setaffinity(0, {LOAD_CORE})


def raise_descriptors():
    """Takes all file descriptors that it may have, for itself and for what it starts; how many they are."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


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
    """A process of ours on one core (or on cores such as "0,1", or with None on any), with its children."""

    def __init__(self, name, cores, command, log, **how):
        self.name, self.log, self.begun = name, log, time.monotonic()
        with open(log, "wb") as out:
            pinned = [] if cores is None else ["taskset", "-c", str(cores)]
            pinned += map(str, command)
            self.child = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **how)

    def await_port(self, port, address="127.0.0.1", seconds=15, pause=0.05):
        """Waits until someone listens; how many seconds it has taken since the start."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                socket.create_connection((address, port), timeout=1).close()
                return time.monotonic() - self.begun
            except OSError:
                time.sleep(pause)
        raise SystemExit(f"{self.name} did not start:\n{Path(self.log).read_text(errors='replace')[-2000:]}")

    def family(self):
        """The ids of the process and its descendants, with what /proc/ID/stat says of each after the name."""
        stats = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    # The name in parentheses may hold spaces; what follows it does not.
                    stats[int(entry)] = Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
        ours, found = set(), {self.child.pid}
        while found:
            ours |= found
            found = {pid for pid, fields in stats.items() if int(fields[1]) in found} - ours
        return {pid: stats[pid] for pid in ours if pid in stats}

    def cpu_seconds(self):
        """User and system time, all threads included."""
        return sum(self.cpu_times())

    def cpu_times(self):
        """Seconds in user space, and seconds in the kernel."""
        family = self.family().values()
        return tuple(sum(int(fields[which]) for fields in family) / TICK for which in (11, 12))

    def memory_kib(self):
        """Proportional set size: what is shared between the processes of one proxy counts once."""
        return self.rollup("Pss:")

    def resident_kib(self):
        return self.rollup("Rss:")

    def rollup(self, what):
        total = 0
        for pid in self.family():
            try:
                lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(what))
        return total

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
