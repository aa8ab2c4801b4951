"""The proxies that are compared, and the server behind them.

Their configurations stand in benches/peers/, readable as they are but for `@{name}` where a port or a path goes. To change
how a peer is tuned, change its file there.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .processes import LOAD_CORE, PROXY_CORE, ROOT, Process, free_ports, program

TEMPLATES = ROOT / "benches/peers"
PINGORA = TEMPLATES / "pingora"

# What a proxy may listen for, each on a port of its own: HTTP/1.1 in the clear; HTTP/2 in the clear; both under TLS;
# what comes from the cache; HTTP/1.1 whose server gets a new connection for each request; and TCP, of which nothing is
# read: what a proxy of HTTP can hardly undercut.
DOORS = ("plain", "h2c", "tls", "cache", "churn", "relay")

BODIES = {"48": 48, "100k": 100 * 1024, "kept/1k": 1024, "kept/100k": 100 * 1024}


def filled(text, names):
    """The text with each `@{name}` replaced; `$` has a meaning in nginx's files."""
    return re.sub(r"@\{([\w-]+)\}", lambda found: str(names[found.group(1)]), text)


@dataclass
class Peer:
    name: str
    title: str
    program: str
    command: list
    files: tuple = ()
    doors: tuple = ()
    version: tuple = ("-v",)
    # Whose column its figures go to; a product may need more than one process to show its best.
    product: str = ""

    def __post_init__(self):
        self.product = self.product or self.name

    def path(self, options):
        """Where the program is, or None."""
        given = getattr(options, self.program, None)
        return given or program(self.program)

    def says_version(self, options):
        if self.name == "pingora":
            return pingora_version()
        command = [self.path(options), *self.version]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
        found = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
        return found.group(0) if found else "?"

    def start(self, directory, to, options, cores=PROXY_CORE):
        """The process, and its port for each door. Its files are written into the directory."""
        ports = dict(zip((*self.doors, "admin"), free_ports(len(self.doors) + 1)))
        names = {**ports, "to": to, "dir": directory, "stream": nginx_stream(options) or ""}
        for name in self.files:
            text = (TEMPLATES / name).read_text()
            (directory / name).write_text(filled(text, names))
        command = [self.path(options), *(filled(word, names) for word in self.command)]
        process = Process(self.name, cores, command, directory / f"{self.name}.log", env=environment(directory))
        process.ports = ports
        try:
            for door in self.doors:
                process.await_port(ports[door])
        except SystemExit:
            process.end()
            raise
        return process


def nginx_command(directory, config):
    # As root its workers would become another user, who cannot read the temporary directory.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    return ["-p", directory, "-e", "stderr", *user, "-c", f"{directory}/{config}"]


WEB = ("plain", "h2c", "tls", "churn")

PEERS = [
    Peer("tidegate", "Tidegate", "tidegate", ["run", "--config", "@{dir}/tidegate.toml"], ("tidegate.toml",),
         (*WEB, "cache"), version=("--version",)),
    Peer("nginx", "nginx", "nginx", nginx_command("@{dir}", "nginx.conf"), ("nginx.conf",), (*WEB, "cache")),
    Peer("haproxy", "HAProxy", "haproxy", ["-db", "-f", "@{dir}/haproxy.cfg"], ("haproxy.cfg",), WEB),
    Peer("varnish", "Varnish", "varnishd",
         ["-F", "-j", "none", "-n", "@{dir}/varnish", "-T", "none", "-a", "127.0.0.1:@{cache}",
          "-b", "127.0.0.1:@{to}", "-s", "malloc,64m", "-p", "thread_pools=1", "-p", "thread_pool_min=80"],
         doors=("cache",), version=("-V",)),
    Peer("caddy", "Caddy", "caddy", ["run", "--adapter", "caddyfile", "--config", "@{dir}/Caddyfile"], ("Caddyfile",),
         WEB, version=("version",)),
    Peer("envoy", "Envoy", "envoy",
         ["-c", "@{dir}/envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"],
         ("envoy.yaml",), WEB, version=("--version",)),
    Peer("pingora", "pingora", "pingora",
         ["@{to}", "@{plain}", "@{h2c}", "@{tls}", "@{churn}", "@{dir}/bench.pem", "@{dir}/bench.key"], (), WEB),
    Peer("haproxy-cache", "HAProxy's cache", "haproxy", ["-db", "-f", "@{dir}/haproxy-cache.cfg"],
         ("haproxy-cache.cfg",), ("cache",), product="haproxy"),
    Peer("nginx-relay", "nginx's relay", "nginx", nginx_command("@{dir}", "nginx-relay.conf"), ("nginx-relay.conf",),
         ("relay",), product="nginx"),
    Peer("haproxy-relay", "HAProxy's relay", "haproxy", ["-db", "-f", "@{dir}/haproxy-relay.cfg"],
         ("haproxy-relay.cfg",), ("relay",), product="haproxy"),
]  # fmt: skip


# The columns of tables, by product.
TITLES = {peer.name: peer.title for peer in PEERS if peer.name == peer.product}


def add_peer_options(parser):
    parser.add_argument("--tidegate", default=str(ROOT / "target/release/tidegate"), help="the release binary")
    parser.add_argument("--envoy", help="its binary, if it is not in PATH")
    parser.add_argument("--nginx-stream", help="ngx_stream_module.so, if it is not with nginx's other modules")


def build_pingora(options):
    """Builds benches/peers/pingora, if that is asked for; `options.pingora` is its binary then."""
    if not options.pingora:
        options.pingora = None
        return
    target = ROOT / "target/peers"
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", PINGORA / "Cargo.toml",
               "--target-dir", target]  # fmt: skip
    # The system's OpenSSL, as nginx and HAProxy have it; the crate would build its own.
    subprocess.run(command, check=True, env={**os.environ, "OPENSSL_NO_VENDOR": "1"})
    options.pingora = str(target / "release/pingora-peer")


def pingora_version():
    lock = (PINGORA / "Cargo.lock").read_text()
    return re.search(r'name = "pingora-proxy"\nversion = "([^"]+)"', lock).group(1)


def nginx_stream(options):
    usual = "/usr/lib/nginx/modules/ngx_stream_module.so"
    given = getattr(options, "nginx_stream", None) or usual
    return given if os.path.exists(given) else None


def present(options, names=None):
    """The peers that can be started here; and the titles of those that cannot."""
    wanted = [peer for peer in PEERS if names is None or peer.product in (*names, "tidegate")]
    there = [peer for peer in wanted if peer.path(options) and (peer.name != "nginx-relay" or nginx_stream(options))]
    return there, [peer.title for peer in wanted if peer not in there]


def environment(directory):
    # Caddy keeps files in its home.
    return {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}


def start_origin(directory, listen=None, **how):
    """nginx with files of BODIES, and its port. `listen` is for another address than one of the kernel's choice."""
    for name, size in BODIES.items():
        path = directory / "www" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    [port] = free_ports(1)
    names = {"dir": directory, "listen": listen or f"127.0.0.1:{port}"}
    if listen:
        port = int(listen.rsplit(":", 1)[1])
    text = (TEMPLATES / "origin.conf").read_text()
    (directory / "origin.conf").write_text(filled(text, names))
    command = [program("nginx"), *nginx_command(str(directory), "origin.conf")]
    process = Process("origin", LOAD_CORE, command, directory / "origin.log", **how)
    process.await_port(port)
    return process, port


def make_certificate(directory):
    """ECDSA P-256, of our own, for two days: bench.pem, bench.key, and both in haproxy.pem."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", directory / "bench.key", "-out", directory / "bench.pem"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    both = (directory / "bench.pem").read_text() + (directory / "bench.key").read_text()
    (directory / "haproxy.pem").write_text(both)


def keep_configurations(directory, kept):
    """Copies what was run into a directory that stays."""
    kept = Path(kept)
    kept.mkdir(parents=True, exist_ok=True)
    names = {"origin.conf", *(name for peer in PEERS for name in peer.files)}
    for name in names:
        if (directory / name).exists():
            shutil.copy(directory / name, kept / name)


def nginx_head(directory, name):
    """The head of a configuration that a bench writes itself."""
    paths = "".join(
        f"{kind}_temp_path {directory}/{name}-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""daemon off; {user} worker_processes 1; pid {directory}/{name}.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
{paths} access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
"""
