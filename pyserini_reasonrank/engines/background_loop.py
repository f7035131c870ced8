"""An event loop on a thread of its own, for parts that outlive the loop of the run that uses them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class _Threads(ThreadPoolExecutor):
    """Threads of a loop. When the interpreter ends and refuses new work, calls run at once: engines are closed then."""

    def submit[T](self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            done: Future[T] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:
                done.set_exception(error)
            return done


class BackgroundLoop:
    """Runs coroutines for other loops. Its thread is a daemon, so an interrupted program does not wait for it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Threads(thread_name_prefix=name))
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread is that of the loop, which can't wait for a coroutine on it."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def submit[T](self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start ``coroutine`` on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` on the background loop and wait for it. Cancelling the wait cancels it."""
        if self.runs_here:
            return await coroutine
        return await asyncio.wrap_future(self.submit(coroutine))

    def close(self) -> None:
        """Cancel the running coroutines and end the thread."""
        self.submit(self._cancel()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class RunningLoop(BackgroundLoop):
    """The event loop that runs now, in place of one in a thread: a change of threads for each call takes time.

    Its owner ends it. ``submit`` is for other threads.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Do nothing: other coroutines use the loop."""
