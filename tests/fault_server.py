"""An OpenAI-compatible server that knows the right order of every window, and spoils a share of its answers.

It runs on a thread of the test. Each fault is drawn from a hash of the prompt and of how often it was asked, so a run draws
the same ones whatever the order of its calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PASSING = ("429", "429 with a time", "500", "503", "504", "408", "reset", "cut body")
"""Faults after which a client asks again."""
ANSWERS = ("empty", "cut thought", "refusal")
"""Faults that are answers."""
RETRY_AFTER = 0.2
_PASSAGE = re.compile(r"\[(\d+)\]\W[^\n]*?worth (\d+)")


@dataclass
class FaultServer:
    """``rate`` is the share of the calls with a fault, the same for each of ``faults``."""

    rate: float
    faults: tuple[str, ...] = (*PASSING, *ANSWERS)
    url: str = ""
    drawn: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """For each prompt, when it was asked, and the fault of the answer ("" for none)."""
    seconds: float = 0.0
    """How long each answer takes."""
    padding: int = 0
    """The characters of each thought."""
    authorizations: list[str] = field(default_factory=list)
    dies_after: int | None = None
    """The number of calls after which the server is gone for ``gone`` seconds."""
    gone: float = 0.7
    _restart: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def calls(self) -> int:
        return sum(map(len, self.times.values()))

    def _fault(self, key: str) -> str:
        tries = len(self.times[key])
        digest = hashlib.sha256(f"{key} {tries}".encode()).digest()
        point = int.from_bytes(digest[:8]) / 2**64 / self.rate * len(self.faults) if self.rate else len(self.faults)
        return self.faults[int(point)] if point < len(self.faults) else ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError),
            contextlib.closing(writer),
        ):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.authorizations += re.findall(r"(?im)^authorization: (.*?)\r?$", head.decode())
                if not await self._respond(head.split()[1].decode(), body, writer):
                    break

    async def _respond(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; False if the connection is to be closed."""
        if path.endswith("/models"):
            return await _send(writer, 200, {"data": [{"id": "ranker", "max_model_len": 32768}]})
        messages = json.loads(body)["messages"]
        key = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
        fault = self._fault(key)
        self.times[key].append((time.monotonic(), fault))
        self.drawn[fault] += 1
        if self.dies_after is not None and self.calls >= self.dies_after:
            self.dies_after = None
            self._restart.set()
        if fault == "reset":
            return False
        if fault[:3].isdigit():
            header = f"Retry-After: {RETRY_AFTER}\r\n" if fault == "429 with a time" else ""
            error = {"error": {"message": f"fault {fault}: [2] > [1] of 3 workers"}}
            return await _send(writer, int(fault[:3]), error, header)
        answer = _answer(messages, fault, "By worth. " * (self.padding // 10 + 1))
        await asyncio.sleep(self.seconds)
        return await _send(writer, 200, answer, cut=fault == "cut body")

    async def serve(self, started: threading.Event, ended: asyncio.Event) -> None:
        """Serve until ``ended``; after ``dies_after`` calls all connections are lost and new ones refused for a time."""
        port = 0
        while not ended.is_set():
            self._restart.clear()
            connections = set[asyncio.Task[None]]()

            async def connected(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                connections: set[asyncio.Task[None]] = connections,
            ) -> None:
                if (task := asyncio.current_task()) is not None:
                    connections.add(task)
                    task.add_done_callback(connections.discard)
                await self.handle(reader, writer)

            server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=1024)
            port = server.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}/v1"
            started.set()
            waits = [asyncio.ensure_future(event.wait()) for event in (ended, self._restart)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            server.close()
            for task in [*waits, *connections]:
                task.cancel()
            await asyncio.sleep(0 if ended.is_set() else self.gone)


async def _send(
    writer: asyncio.StreamWriter, status: int, content: Mapping[str, Any], header: str = "", *, cut: bool = False
) -> bool:
    data = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n{header}Content-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + (data[: len(data) // 2] if cut else data))
    await writer.drain()
    return not cut


def _answer(messages: list[dict[str, str]], fault: str, thought: str) -> dict[str, Any]:
    worths = {int(number): int(worth) for number, worth in _PASSAGE.findall(messages[-1]["content"])}
    order = " > ".join(f"[{number}]" for number in sorted(worths, key=lambda number: (-worths[number], number)))
    content, finish = f"<think>{thought}</think><answer>{order}</answer>", "stop"
    if fault == "empty":
        content = ""
    elif fault == "cut thought":
        content, finish = "<think>Of [3] and [1], in 2020,", "length"
    elif fault == "refusal":
        content, finish = "I can't help with that.", "content_filter"
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


@contextmanager
def serving(server: FaultServer) -> Iterator[FaultServer]:
    """The server on a thread, for the length of a block."""
    loop, started, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve(started, ended)))
    thread.start()
    started.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
