#!/usr/bin/env python3
"""A server that can be made to misbehave while it runs, in a process of its own that can be killed or stopped.

    server.py PORT [delay=MS] [capacity=N]

`GET /__mode?delay=MS&capacity=N&status=S&cut=1` changes how it answers from then on (what is left out goes back to its
default), `GET /__count` says what it has done. Anything else is answered after `delay`, by at most `capacity` at once;
who comes more waits in line, as with a server that has so many threads. `cut` breaks off in the middle of the body.
"""

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

BODY = b"x" * 1000
DEFAULTS = {"delay": 5, "capacity": 1000, "status": 200, "cut": 0}


class Server:
    def __init__(self, mode):
        self.mode, self.count = {**DEFAULTS, **mode}, {"answered": 0, "cut": 0, "failed": 0}
        self.busy, self.waiting = 0, []

    async def turn(self):
        if self.busy >= self.mode["capacity"]:
            mine = asyncio.get_running_loop().create_future()
            self.waiting.append(mine)
            await mine
        self.busy += 1

    def done(self):
        self.busy -= 1
        while self.waiting:
            waiter = self.waiting.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                break

    async def answer(self, target):
        """The bytes of an answer, and whether the connection is closed after them."""
        url = urlsplit(target)
        if url.path == "/__mode":
            self.mode = {**DEFAULTS, **{key: int(values[0]) for key, values in parse_qs(url.query).items()}}
            return head(200, 0), False
        if url.path == "/__count":
            body = json.dumps(self.count).encode()
            return head(200, len(body)) + body, False
        await self.turn()
        try:
            await asyncio.sleep(self.mode["delay"] / 1000)
        finally:
            self.done()
        if self.mode["cut"]:
            self.count["cut"] += 1
            return head(200, len(BODY)) + BODY[: len(BODY) // 2], True
        self.count["answered" if self.mode["status"] < 500 else "failed"] += 1
        return head(self.mode["status"], len(BODY)) + BODY, False

    async def serve(self, reader, writer):
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                answer, is_last = await self.answer(request.split(b" ", 2)[1].decode())
                writer.write(answer)
                await writer.drain()
                if is_last:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def head(status, length):
    return f"HTTP/1.1 {status} Said\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n".encode()


async def main():
    mode = {key: int(value) for key, value in (word.split("=") for word in sys.argv[2:])}
    server = await asyncio.start_server(
        Server(mode).serve, "127.0.0.1", int(sys.argv[1]), backlog=1024, reuse_address=True
    )
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
