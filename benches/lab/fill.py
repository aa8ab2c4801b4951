"""Asks for each of very many things once, so that a cache has them all."""

import socket
import threading

from .wire import Reader, content_length

CONNECTIONS = 4
# Requests on their way on one connection.
AT_ONCE = 50


def fill(port, before, count):
    """Asks for `before` with each number below `count` after it."""
    failures = []
    shares = [range(first, count, CONNECTIONS) for first in range(CONNECTIONS)]
    threads = [threading.Thread(target=ask_all, args=(port, before, share, failures)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"port {port}: {failures[0]}")


def ask_all(port, before, numbers, failures):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            reader = Reader(connection)
            for first in range(0, len(numbers), AT_ONCE):
                some = numbers[first:first + AT_ONCE]
                connection.sendall(b"".join(
                    b"GET %s%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (before.encode(), number, port)
                    for number in some))  # fmt: skip
                for _ in some:
                    head = reader.head()
                    if not head or not head.startswith(b"HTTP/1.1 200"):
                        raise OSError(f"not an answer: {head!r}")
                    reader.take(content_length(head))
    except OSError as failure:
        failures.append(failure)
