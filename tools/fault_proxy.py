#!/usr/bin/env python3
"""A proxy before an S3 or DynamoDB endpoint that makes faults, and records the requests.

    tools/fault_proxy.py s3|dynamodb http://127.0.0.1:PORT [--listen PORT] [--share 0.05] [--seed 1] [--delay 10]

Tests use the class `FaultProxy`; its `plan` decides which request has which fault. The proxy passes every byte on unchanged,
because signatures cover the header with its `Host`. It holds one request and one answer in memory for each connection.
"""

import argparse
import asyncio
import contextlib
import sys
import threading
from urllib.parse import urlsplit

import faults
from faults import Request

# Longer than any part of an object.
MAX_LINE_BYTES = 1 << 20
BODILESS = (204, 304)
IDLE_SECONDS = 60


class Message:
    """A request or an answer: its bytes, and the values of its head."""

    def __init__(self, head: bytes):
        self.head, self.body, self.raw_body = head, b"", b""
        self.start, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with this answer."""
        return self.start.startswith("HTTP/1.0") or self.headers.get("connection", "").lower() == "close"

    async def read_body(self, reader: asyncio.StreamReader, is_answer: bool) -> None:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            await self.read_chunks(reader)
            return
        length = self.headers.get("content-length")
        if length is not None:
            self.raw_body = await reader.readexactly(int(length))
        elif is_answer:
            self.raw_body = await reader.read()
        self.body = self.raw_body

    async def read_chunks(self, reader: asyncio.StreamReader) -> None:
        raw, chunks = [], []
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            raw.append(line)
            if size == 0:
                break
            chunk = await reader.readexactly(size + 2)
            raw.append(chunk)
            chunks.append(chunk[:-2])
        # Trailing fields, up to the empty line.
        while raw[-1] != b"\r\n":
            raw.append(await reader.readuntil(b"\r\n"))
        self.raw_body, self.body = b"".join(raw), b"".join(chunks)


class Cut(Exception):
    """Raised to cut the connection to the client."""


class FaultProxy:
    """A proxy as a context manager; it runs on a thread of its own. `plan` may be replaced at any time."""

    def __init__(self, service: str, upstream: str, port: int = 0, plan=lambda _request: None):
        self.service, self.port, self.plan = service, port, plan
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname, parts.port)
        self.requests, self.connections = [], set()
        self.lock, self.number, self.under_way = threading.Condition(), 0, 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FaultProxy":
        self.thread.start()
        listening = asyncio.start_server(self.serve, "127.0.0.1", self.port, limit=MAX_LINE_BYTES)
        self.server = asyncio.run_coroutine_threadsafe(listening, self.loop).result()
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_exception) -> None:
        asyncio.run_coroutine_threadsafe(self.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def close(self) -> None:
        self.server.close()
        connections = list(self.connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def take_requests(self) -> list:
        """The requests since the last call, in order of arrival."""
        with self.lock:
            taken, self.requests = self.requests, []
        return taken

    def number_and_fault(self, message: Message) -> Request:
        method, target, _ = message.start.split(" ")
        with self.lock:
            self.number += 1
            request = Request(self.number, method, target, message.headers, message.body)
            request.fault = self.plan(request)
            self.requests.append(request)
            self.under_way += 1
        return request

    def wait_until_idle(self) -> None:
        """Waits until all requests are carried out, also those of clients that have closed their connection."""
        with self.lock:
            if not self.lock.wait_for(lambda: self.under_way == 0, IDLE_SECONDS):
                raise RuntimeError(f"{self.under_way} requests to {self.service} do not end")

    def end_request(self) -> None:
        with self.lock:
            self.under_way -= 1
            self.lock.notify_all()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        # asyncio itself has only weak references to tasks.
        task = asyncio.current_task()
        self.connections.add(task)
        try:
            while True:
                message = Message(await reader.readuntil(b"\r\n\r\n"))
                if "100-continue" in message.headers.get("expect", "").lower():
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await message.read_body(reader, is_answer=False)
                await self.exchange(message, writer)
                await writer.drain()
        except (Cut, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(task)
            writer.transport.abort()

    async def exchange(self, message: Message, writer: asyncio.StreamWriter) -> None:
        """Passes one request and its answer on, or carries out a fault."""
        request = self.number_and_fault(message)
        try:
            await self.carry_out(request, message, writer)
        finally:
            self.end_request()

    async def carry_out(self, request: Request, message: Message, writer: asyncio.StreamWriter) -> None:
        """Carries out the fault of a request, if there is one. Raises `Cut` to end the connection."""
        fault = request.fault
        kind = fault.kind if fault else None
        if kind in (faults.ERROR, faults.PARTIAL):
            writer.write(refusal(*faults.answer(self.service, request, fault)))
            return
        if kind == faults.CUT_BEFORE:
            fault.then()
            raise Cut
        if kind == faults.DELAY_BEFORE:
            await asyncio.sleep(fault.delay_seconds)
        answer = await self.pass_on(message, request)
        if kind in (faults.CUT_REQUEST, faults.CUT_AFTER):
            fault.then()
            raise Cut
        if kind == faults.DELAY_AFTER:
            await asyncio.sleep(fault.delay_seconds)
        whole = answer.head + answer.raw_body
        if kind == faults.CUT_ANSWER:
            whole = whole[: len(answer.head) + len(answer.raw_body) // 2 if answer.raw_body else len(whole) // 2]
        writer.write(whole)
        if kind == faults.CUT_ANSWER or answer.is_last:
            # Bytes already written must reach the client.
            writer.close()
            await writer.wait_closed()
            raise Cut

    async def pass_on(self, message: Message, request: Request) -> Message | None:
        """Sends the request to the endpoint on a new connection: the endpoint may have closed an older one."""
        reader, writer = await asyncio.open_connection(*self.upstream, limit=MAX_LINE_BYTES)
        try:
            if request.fault and request.fault.kind == faults.CUT_REQUEST:
                writer.write(message.head + message.raw_body[: len(message.raw_body) // 2])
                await writer.drain()
                return None
            writer.write(message.head + message.raw_body)
            answer = Message(await reader.readuntil(b"\r\n\r\n"))
            # The proxy has sent 100 Continue itself.
            while answer.status < 200:
                answer = Message(await reader.readuntil(b"\r\n\r\n"))
            request.status = answer.status
            if request.method != "HEAD" and answer.status not in BODILESS:
                await answer.read_body(reader, is_answer=True)
            return answer
        finally:
            writer.transport.abort()


def refusal(status: int, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("service", choices=["s3", "dynamodb"])
    arguments.add_argument("upstream")
    arguments.add_argument("--listen", type=int, default=0, help="port of loopback")
    arguments.add_argument("--share", type=float, default=0.05, help="share of requests that have a fault")
    arguments.add_argument("--seed", default="1")
    arguments.add_argument("--delay", type=float, default=10, help="longest delay in seconds")
    chosen = arguments.parse_args()
    plan = faults.Random(chosen.seed, chosen.share, chosen.delay)
    with FaultProxy(chosen.service, chosen.upstream, chosen.listen, plan) as proxy, contextlib.suppress(KeyboardInterrupt):
        print(f"listening on {proxy.url}", flush=True)
        while True:
            threading.Event().wait(1)
            for request in proxy.take_requests():
                print(request, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
