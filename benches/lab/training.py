"""What benches/pgo has Tidegate do while it counts: every way that a busy proxy takes often."""

import socket
import threading
from email.utils import formatdate
from pathlib import Path

from . import peers, wire
from .idle import tls_context
from .processes import Process, free_ports

CONFIG = Path(__file__).parent / "training.toml"
# Connections at once: several have something whenever the proxy looks.
CLIENTS = 8

HOST = "www.example.com"
CACHED, STATIC = "cached.example.com", "static.example.com"
BODY = b"x" * (16 * 1024)
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# What browsers and proxies before us send along.
BROWSER = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9\r\nCookie: a=1; session=0123456789abcdef; theme=dark\r\nSec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\nReferer: https://www.example.com/from/here\r\n"
)
PROXY = b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736\r\n"


def request(host, target, fields=b"", method="GET", body=b""):
    """Its bytes. `{n}` in the target becomes another number each time."""
    length = b"Content-Length: %d\r\n" % len(body) if body and fields != CHUNKED else b""
    if fields == CHUNKED:
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:5000], body[5000:])) + b"0\r\n\r\n"
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode() + length + fields + b"\r\n"
    return head + body


# How often of each thousand, and what.
KINDS = [
    (1000, request(HOST, "/b/48")),
    (1000, request(HOST, "/b/2000?a=b&c=d", BROWSER)),
    (200, request(HOST, "/b/2000", PROXY)),
    (300, request(HOST, "/b/102400")),
    (300, request(HOST, "/chunked/5000", BROWSER)),
    (500, request(HOST, "/b/48", method="POST", body=BODY)),
    (200, request(HOST, "/b/48", CHUNKED, "POST", BODY)),
    (100, request(HOST, "/b/48", method="HEAD")),
    (100, request(HOST, "/missing")),
    (100, request(HOST, "/b/48", BROWSER, "PUT", BODY[:300])),
    (1500, request(CACHED, "/kept/1024")),
    (700, request(CACHED, "/kept/2000", BROWSER)),
    (300, request(CACHED, "/kept/102400")),
    (200, request(CACHED, "/kept/1024", b'If-None-Match: "1"\r\n')),
    (100, request(CACHED, "/kept/102400", b"Range: bytes=1000-1999\r\n")),
    (200, request(CACHED, "/kept/2000?{n}")),
    (200, request(CACHED, "/stale/1024")),
    (200, request(CACHED, "/varied/1024", BROWSER)),
    (100, request(CACHED, "/b/48", method="POST", body=BODY[:100])),
    (300, request(STATIC, "/kept/1024?utm_source=a")),
    (300, request("a.tenants.example.com", "/b/2000", b"X-Tenant: a\r\n" + BROWSER)),
    (300, request(HOST, "/shop/2000", BROWSER)),
    (300, request(HOST, "/api/v1/2000", BROWSER)),
    (100, request("once.example.com", "/b/48", b"Connection: close\r\n")),
]


def serve(connection):
    """A server's end: the last part of the path says how long the body is, the first what is said of it."""
    reader = wire.Reader(connection)
    try:
        while (head := reader.head()) is not None:
            if b"transfer-encoding: chunked" in head.lower():
                while not reader.pending.endswith(b"0\r\n\r\n") and reader.more():
                    pass
                reader.pending = b""
            reader.take(wire.content_length(head))
            method, target, _ = head.split(b" ", 2)
            connection.sendall(answer(method, target.split(b"?")[0].split(b"/"), head))
    except OSError:
        pass
    finally:
        connection.close()


def answer(method, path, head):
    kind, size = path[1], int(path[-1]) if path[-1].isdigit() else 48
    status, body = b"404 Not Found" if kind == b"missing" else b"200 OK", b"x" * size
    said = {
        b"kept": b'Cache-Control: public, max-age=3600\r\nETag: "1"\r\nSurrogate-Key: all kept\r\n',
        b"stale": b'Cache-Control: max-age=0\r\nETag: "1"\r\nLast-Modified: Mon, 05 Jan 2026 10:00:00 GMT\r\n',
        b"varied": b"Cache-Control: max-age=3600\r\nVary: Accept-Encoding, Accept-Language\r\n",
        b"shop": b"Set-Cookie: session=0123456789; Path=/; HttpOnly\r\nCache-Control: no-store\r\n",
    }.get(kind, b"")
    said += b"Date: %s\r\nServer: origin\r\nContent-Type: text/html; charset=utf-8\r\n" % formatdate(usegmt=True).encode()
    if kind == b"stale" and b"if-none-match" in head.lower():
        return b"HTTP/1.1 304 Not Modified\r\n" + said + b"\r\n"
    if kind == b"chunked":
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:1000], body[1000:]))
        return b"HTTP/1.1 %s\r\n%sTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (status, said, pieces)
    shown = b"" if method == b"HEAD" else body
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, said, size) + shown


def accept(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


class Client:
    """Asks anything, over a connection that is made again when it has ended."""

    def __init__(self, port, over_tls):
        self.port, self.over_tls, self.connection = port, over_tls, None

    def connect(self):
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.over_tls:
            self.connection = tls_context().wrap_socket(self.connection)
        self.reader = wire.Reader(self.connection)

    def ask(self, bytes_of):
        if self.connection is None:
            self.connect()
        self.connection.sendall(bytes_of)
        head = self.reader.head()
        if head is None:
            raise SystemExit(f"no answer to {bytes_of[:200]!r}")
        has_body = not bytes_of.startswith(b"HEAD") and b" 304 " not in head[:16]
        if has_body and b"transfer-encoding: chunked" in head.lower():
            while (size := int(self.line(), 16)) > 0:
                self.reader.take(size + 2)
            self.line()
        elif has_body:
            self.reader.take(wire.content_length(head))
        if b"connection: close" in bytes_of.lower():
            self.close()
        return int(head[9:12])

    def line(self):
        while b"\r\n" not in self.reader.pending:
            if not self.reader.more():
                raise SystemExit("a body ended too early")
        line, self.reader.pending = self.reader.pending.split(b"\r\n", 1)
        return line

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def ask_all(port, over_tls, requests, first, statuses):
    """All kinds, `requests` of those that are asked most often; a new connection now and then."""
    client = Client(port, over_tls)
    for number in range(requests):
        for often, bytes_of in KINDS:
            turn = (number + first) % 1000
            for _ in range((turn + 1) * often // 1000 - turn * often // 1000):
                status = client.ask(bytes_of.replace(b"{n}", b"%d" % (number * CLIENTS + first)))
                statuses[status] = statuses.get(status, 0) + 1
        if number % 50 == 49:
            client.close()
    client.close()


def ask_over_http2(port, requests):
    clients = [wire.Http2(port, b"/b/%d" % size, size) for size in (48, 2000, 60_000)]
    for number in range(requests):
        for client in clients[: 3 if number % 4 == 0 else 2]:
            client.ask()
    for client in clients:
        client.close()


def train(binary, directory, requests):
    """Has the binary serve so many requests of each kind, and end."""
    peers.make_certificate(directory)
    origins = [wire.listen(), wire.listen()]
    for listener in origins:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    ports = dict(zip(("plain", "tls", "admin"), free_ports(3)))
    to, to2 = (listener.getsockname()[1] for listener in origins)
    config = directory / "training.toml"
    config.write_text(peers.filled(CONFIG.read_text(), {**ports, "to": to, "to2": to2, "dir": directory}))
    process = Process("tidegate", None, [binary, "run", "--config", config], directory / "tidegate.log")
    try:
        process.await_port(ports["plain"])
        failures, statuses = [], {}

        def run(work, *how):
            try:
                work(*how)
            except (Exception, SystemExit) as error:  # noqa: BLE001: a thread that ends says nothing by itself
                failures.append(error)

        jobs = [(ask_all, ports["tls" if n % 4 == 0 else "plain"], n % 4 == 0, requests // CLIENTS, n, statuses)
                for n in range(CLIENTS)]  # fmt: skip
        jobs += [(ask_over_http2, ports["plain"], requests)] * 2
        threads = [threading.Thread(target=run, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise SystemExit(f"the training failed: {failures[0]}")
        if set(statuses) != {200, 206, 304, 404}:
            raise SystemExit(f"the training was answered by {statuses}")
    finally:
        process.end()
        for listener in origins:
            listener.close()
