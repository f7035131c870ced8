"""The connection of this process to a Ray cluster: a running one, or one on this machine that ends with the run."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from pyserini_reasonrank import interrupts
from pyserini_reasonrank.errors import Failure, UsageError, message_of

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default 15: other processes of the machine would leave replicas without a core
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the default of later versions of Ray, which this one warns about
}
_OBJECT_STORE = 200_000_000  # bytes; prompts and answers are small and do not stay


class RayConnection:
    """The use of a cluster by one engine. ``address``: see ``RayOptions``; ``init``: further arguments of ``ray.init``.

    ``cpus`` and ``resources`` are what all replicas need, which a cluster of this machine is given. ``at_signal`` is called
    when a signal ends the program during the use of a running cluster.
    """

    # Ray has one connection for a process: how many engines use it, whether one of them made it, and its own cluster
    _users: ClassVar[int] = 0
    _connected_here: ClassVar[bool] = False
    _own_cluster: ClassVar[bool] = False

    def __init__(
        self,
        address: str | None,
        cpus: float,
        resources: Mapping[str, float],
        init: Mapping[str, Any],
        at_signal: Callable[[], None],
    ) -> None:
        self._address, self._cpus, self._resources = address, cpus, resources
        self._init, self._at_signal = dict(init), at_signal
        self._cleaning = ExitStack()

    def open(self) -> None:
        """Start or join the cluster. Called in a thread, where Ray leaves the signal handlers alone.

        UsageError if Ray is not installed, or if the settings don't lead to a cluster; Failure if Ray fails otherwise.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if importlib.util.find_spec("ray") is None:
            raise UsageError("the ray engine needs Ray: pip install 'pyserini-reasonrank[ray]'")
        logging.getLogger("ray").setLevel(logging.ERROR)
        import ray

        if self._address is not None and "://" in self._address:
            raise UsageError(
                f"--rerank.engine.address {self._address}: run on a machine of the cluster, and write auto or HOST:PORT"
            )
        if RayConnection._own_cluster:
            raise UsageError(
                "a second ray engine in one process needs a running cluster: ray start --head, --rerank.engine.address auto"
            )
        if not ray.is_initialized():
            self._initialize(ray)
        RayConnection._users += 1
        self._cleaning.callback(self._disconnect, ray)

    def close(self) -> None:
        """End the use; the last one ends the connection, and the cluster if it belongs to this process."""
        self._cleaning.close()

    def _initialize(self, ray: Any) -> None:
        arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            # a short name, since the paths of Ray's sockets, below it, are limited to 107 bytes
            folder = self._cleaning.enter_context(interrupts.temporary_folder("rr-ray-"))
            arguments |= {"address": "local", "include_dashboard": False, "_temp_dir": folder}
            arguments |= {"num_cpus": max(1, round(self._cpus)), "object_store_memory": _OBJECT_STORE}
            arguments["resources"] = dict(self._resources) or None
        else:
            arguments["address"] = self._address
            self._cleaning.enter_context(interrupts.cleaning(self._at_signal))
        try:
            ray.init(**(arguments | self._init))
        except (ConnectionError, TimeoutError) as error:
            raise UsageError(
                f"no Ray cluster answers at --rerank.engine.address {self._address}: start it (ray start --head), or correct "
                f"the address ({message_of(error)})"
            ) from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"Ray rejects --rerank.engine.init: {message_of(error)}") from error
        except RuntimeError as error:
            raise Failure(f"Ray did not start: {message_of(error)}") from error
        RayConnection._connected_here, RayConnection._own_cluster = True, self._address is None

    @staticmethod
    def _disconnect(ray: Any) -> None:
        RayConnection._users -= 1
        if not RayConnection._users and RayConnection._connected_here:
            RayConnection._connected_here = RayConnection._own_cluster = False
            ray.shutdown()


@contextmanager
def own_signal_handlers() -> Iterator[None]:
    """Install the signal handlers of this program again: Ray's library has installed its own, which print stack traces."""
    handlers = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # it is not a library's
                    signal.signal(number, handler)
