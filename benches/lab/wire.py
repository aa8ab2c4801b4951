"""HTTP by hand: a client that asks one thing after another on one connection, and a server that answers."""

import socket
import struct
from email.utils import formatdate

from .idle import tls_context

HEAD_BYTES_MAX = 16 * 1024
POSTED = b"x" * (16 * 1024)


def listen():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def serve(connection, asked):
    """A server's end: `/kept/N` has N bytes that may be cached, everything else 48. It says when it is asked."""
    reader = Reader(connection)
    try:
        while True:
            head = reader.head()
            if head is None:
                return
            asked()
            reader.take(content_length(head))
            target = head.split(b" ", 2)[1]
            is_kept = target.startswith(b"/kept/")
            size = int(target.rsplit(b"/", 1)[1]) if is_kept else 48
            fields = b"Cache-Control: public, max-age=3600\r\n" if is_kept else b""
            fields += b"Date: %s\r\nContent-Length: %d\r\n" % (formatdate(usegmt=True).encode(), size)
            connection.sendall(b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/octet-stream\r\n"
                               + fields + b"\r\n" + b"x" * size)  # fmt: skip
    except OSError:
        pass
    finally:
        connection.close()


class Reader:
    """Bytes of a connection, taken in pieces that are known."""

    def __init__(self, connection):
        self.connection, self.pending = connection, b""

    def more(self):
        piece = self.connection.recv(1 << 18)
        self.pending += piece
        return bool(piece)

    def head(self):
        """With its empty line; None at the end of the connection."""
        while (end := self.pending.find(b"\r\n\r\n")) < 0:
            if len(self.pending) > HEAD_BYTES_MAX or not self.more():
                return None
        head, self.pending = self.pending[: end + 4], self.pending[end + 4:]
        return head

    def take(self, count):
        while len(self.pending) < count:
            if not self.more():
                raise ConnectionError(f"the connection ended {count - len(self.pending)} bytes too early")
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken


def content_length(head):
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


class Http1:
    """A client over HTTP/1.1. `ask()` is one request and its whole response."""

    def __init__(self, port, target, size, method=b"GET", body=b"", over_tls=False):
        connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = tls_context().wrap_socket(connection) if over_tls else connection
        self.reader, self.size = Reader(self.connection), size
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        self.request = (b"%s %s HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n%s\r\n"
                        % (method, target, length)) + body  # fmt: skip

    def ask(self):
        self.connection.sendall(self.request)
        head = self.reader.head()
        if not head or not head.startswith(b"HTTP/1.1 200") or content_length(head) != self.size:
            raise SystemExit(f"this is no answer of {self.size} bytes: {head!r}")
        self.reader.take(self.size)

    def close(self):
        self.connection.close()


class Http2:
    """A client over HTTP/2 in the clear, one stream after the other."""

    DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
    END_STREAM, ACK, END_HEADERS = 1, 1, 4

    def __init__(self, port, target, size):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader, self.size, self.stream = Reader(self.connection), size, 1
        # RFC 7541: the first request puts its four fields into the dynamic table, the others name them there. :method GET
        # and :scheme http are 2 and 6 of the static table; 4, 1, 58 and 19 are :path, :authority, user-agent and accept.
        fields = [(4, target), (1, b"www.example.com"), (58, b"bench/1.0"), (19, b"*/*")]
        self.first = b"\x82\x86" + b"".join(bytes([0x40 | name, len(value)]) + value for name, value in fields)
        self.next = b"\x82\x86" + bytes(0x80 | (65 - n) for n in range(4))
        window = struct.pack(">I", (1 << 30))
        self.connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(self.SETTINGS, 0, 0, b"")
                                + self.frame(self.WINDOW_UPDATE, 0, 0, window))  # fmt: skip

    def frame(self, kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def ask(self):
        block = self.first if self.stream == 1 else self.next
        flags = self.END_STREAM | self.END_HEADERS
        self.connection.sendall(self.frame(self.HEADERS, flags, self.stream, block))
        received = 0
        while True:
            head = self.reader.take(9)
            kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0]
            payload = self.reader.take(int.from_bytes(head[:3], "big"))
            if kind in (self.SETTINGS, self.PING) and not flags & self.ACK:
                self.connection.sendall(self.frame(kind, self.ACK, 0, payload if kind == self.PING else b""))
            if stream != self.stream:
                continue
            # 8 of the static table is :status 200.
            is_well = kind == self.DATA or kind == self.HEADERS and payload[0] == 0x88 or kind == self.WINDOW_UPDATE
            if not is_well:
                raise SystemExit(f"this is no answer of {self.size} bytes: frame {kind} {payload!r}")
            received += len(payload) if kind == self.DATA else 0
            if kind in (self.DATA, self.HEADERS) and flags & self.END_STREAM:
                break
        if received != self.size:
            raise SystemExit(f"{received} bytes instead of {self.size}")
        self.stream += 2

    def close(self):
        self.connection.close()
