"""Threads that compute side by side on a CPU, each with its share of the cores.

Forward passes that don't wait for one another use cores better this way than one by one with every product cut into
slices: nothing is synchronised, where a small model's pass does that thousands of times. Two cores reading with
SmolLM2-135M took 1.1 s for what they took 1.2 s for with threads that spin between two products and 2.7 s for with
threads that sleep (OMP_WAIT_POLICY); beside another busy process it is sleeping that is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch

_MOST = 8  # Python itself runs in one of them at a time


def lanes_of(threads: int) -> tuple[int, int]:
    """How many lanes for PyTorch's ``threads``, and threads of each."""
    width = min(threads, _MOST)
    return width, threads // width


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """PyTorch with so many threads where this thread computes, for a while."""
    own = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(own)


class Lanes:
    """``width`` threads on a CPU; on an accelerator, whose kernels are as wide as it is, the calling one."""

    def __init__(self, device: torch.device, *, alone: bool = False) -> None:
        """``alone``: one at a time, all the same."""
        self.width, share = (1, 0) if alone or device.type != "cpu" else lanes_of(torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self.width, "lane") if self.width > 1 else None
        if self._pool is not None:
            together = Barrier(self.width)

            def settle(_: int) -> None:
                torch.get_num_threads()  # a thread that is new to PyTorch takes the number last set, when it first asks
                torch.set_num_threads(share)  # this thread's, and that of new ones: taken back below
                together.wait()

            with computing(torch.get_num_threads()):
                list(self._pool.map(settle, range(self.width)))

    def map[T, R](self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results for all items, as of ``map``; one item takes the cores of the calling thread."""
        if self._pool is None or len(items) == 1:
            return list(map(function, items))
        return list(self._pool.map(function, items))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
