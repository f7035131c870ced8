"""Worker threads that compute side by side on a CPU, each with a share of the cores.

Independent forward passes use the cores better this way than one after the other with every product split over all cores:
no thread waits for another, whereas a small model's pass synchronizes thousands of times. Reading the same prompts with
SmolLM2-135M on two cores took 1.1 s with workers, 1.2 s with threads that spin between two products, and 2.7 s with threads
that sleep (OMP_WAIT_POLICY). Beside another busy process, sleeping threads are the fast ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch

_MOST_WORKERS = 8  # only one of them at a time can run Python itself


def threads_per_worker(threads: int) -> tuple[int, int]:
    """Split PyTorch's ``threads``: the number of workers, and the threads of each."""
    workers = min(threads, _MOST_WORKERS)
    return workers, threads // workers


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute with this many threads, where the calling thread computes, within the context."""
    own = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(own)


class Workers:
    """``count`` worker threads on a CPU. On an accelerator the calling thread does the work: its kernels run in parallel."""

    def __init__(self, device: torch.device, *, one_at_a_time: bool = False) -> None:
        """``one_at_a_time``: use one worker on a CPU too."""
        alone = one_at_a_time or device.type != "cpu"
        self.count, share = (1, 0) if alone else threads_per_worker(torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self.count, "worker") if self.count > 1 else None
        if self._pool is not None:
            together = Barrier(self.count)

            def settle(_: int) -> None:
                torch.get_num_threads()  # a thread that is new to PyTorch adopts the number last set, on its first query
                torch.set_num_threads(share)  # for this thread and for new ones; undone below for the latter
                together.wait()

            with using_threads(torch.get_num_threads()):
                list(self._pool.map(settle, range(self.count)))

    def map[T, R](self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return the results for all items, in their order. A single item uses all threads of the calling thread."""
        if self._pool is None or len(items) == 1:
            return list(map(function, items))
        return list(self._pool.map(function, items))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
