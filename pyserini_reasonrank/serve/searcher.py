"""Search in an index through a process that runs Pyserini, so that the server itself starts no JVM."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from itertools import count
from typing import Any, Self

from pyserini_reasonrank.errors import Failure, UsageError

MODULE = "pyserini_reasonrank.host.searcher"
_LINE = 1 << 26  # bytes of one answer


class IndexSearcher:
    """Searches ``index``, a Lucene folder or a prebuilt index, in a process of its own, for the length of a block."""

    def __init__(self, index: str) -> None:
        self.index = index
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[list[dict[str, Any]]]] = {}

    async def __aenter__(self) -> Self:
        """Start the process and open the index. UsageError or Failure if that fails; the process printed the reason.

        Signals of the terminal reach the server alone, so that the searches in progress end when it drains.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, "--index", self.index,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE, process_group=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            status = await self._process.wait()
            error = UsageError if status == UsageError.exit_code else Failure
            raise error(f"the index {self.index} can't be searched; see the message above")
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        with suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()

    async def search(self, query: str, k: int) -> list[dict[str, Any]]:
        """The top ``k`` hits with docid, score and fields, best first. Failure if the search fails."""
        if self._reader.done():
            raise Failure(f"the search process of the index {self.index} has ended")
        number = next(self._numbers)
        answer: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "query": query, "k": k}).encode() + b"\n")
        try:
            await self._process.stdin.drain()
            return await answer
        except ConnectionError:
            raise Failure(f"the search process of the index {self.index} has ended") from None
        finally:
            del self._waiting[number]

    async def _read(self, lines: asyncio.StreamReader) -> None:
        try:
            while line := await lines.readline():
                found = json.loads(line)
                answer = self._waiting.get(found["id"])
                if answer is None or answer.done():  # its client is gone
                    continue
                if "error" in found:
                    answer.set_exception(Failure(f"the search failed: {found['error']}"))
                else:
                    answer.set_result(found["hits"])
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Failure(f"the search process of the index {self.index} has ended"))
