"""What a kept-alive connection costs while it rests: memory of the proxy with and without thousands of them."""

import gc
import socket
import ssl
import time

WARM = 50
HEAD = b"GET /48 HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
BODY = b"x" * 48

# Proxies give memory back after a while; Tidegate offers it each five seconds.
SETTLE_SECONDS = 12


def connect(port, context):
    """A connection that has had one response."""
    one = socket.create_connection(("127.0.0.1", port), timeout=20)
    if context:
        one = context.wrap_socket(one)
    one.sendall(HEAD)
    received = b""
    while not received.endswith(BODY):
        piece = one.recv(65536)
        if not piece or len(received) > 4096:
            raise SystemExit(f"port {port}: {received!r} is no answer to keep a connection for")
        received += piece
    if not received.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"port {port}: {received!r}")
    return one


def tls_context():
    context = ssl.create_default_context()
    # Our own certificate of a minute ago, on loopback.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def close(connections):
    for one in connections:
        one.close()


def measure(process, port, count, over_tls, settle=SETTLE_SECONDS):
    """KiB for each of so many connections at rest; and what the proxy had before them, with them and after them."""
    context = tls_context() if over_tls else None
    # The first ones pay for what is there once.
    close([connect(port, context) for _ in range(WARM)])
    time.sleep(settle)
    before = process.memory_kib()
    connections = [connect(port, context) for _ in range(count)]
    time.sleep(settle)
    during = process.memory_kib()
    close(connections)
    del connections
    gc.collect()
    time.sleep(settle)
    return (during - before) / count, (before, during, process.memory_kib())
