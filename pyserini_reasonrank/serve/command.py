"""``serve``: a rerank server for clients of Cohere, Jina, vLLM and TEI, with search where an index is given."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec

from pyserini_reasonrank.api import Reranker
from pyserini_reasonrank.cli.arguments import Parser, command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.settings import flags
from pyserini_reasonrank.settings.schema import Tree

TOKEN = "REASONRANK_TOKEN"
"""The environment variable with the token that clients have to send."""

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C, then finish the requests that are being ranked. Returns the exit status."""
    name, tree, rest = flags.lift(argv)
    options = _parser().parse_args(rest)
    if missing := [module for module in _NEEDED if find_spec(module) is None]:
        raise UsageError(f"serve needs {', '.join(missing)}: pip install 'pyserini-reasonrank[serve]'")
    token = os.environ.get(TOKEN) or None
    if token is None and not _is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} can be reached from other machines: set the environment variable {TOKEN} to a secret "
            "that clients send as Authorization: Bearer SECRET, or serve on 127.0.0.1"
        )
    rerankers = _rerankers(name, tree, options.also)
    with _listening(options.host, options.port) as listening:
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again once it has drained
            signal.signal(number, lambda *_: sys.exit(SUCCESS))
        asyncio.run(_serve(rerankers, options, listening, token))
    return SUCCESS


def _parser() -> Parser:
    parser = command_parser(
        "serve",
        "--rerank upr",
        "--rerank reasonrank --rerank.engine.name openai --rerank.engine.base_url http://host:8000/v1 --index msmarco-v1-passage",
        "--rerank upr --also rank-r1=rank-r1.yaml --port 9000",
        usage="--rerank NAME [--rerank.KEY VALUE ...] [flags]",
    )  # fmt: skip
    where = parser.add_argument_group("address")
    where.add_argument(
        "--host", default="127.0.0.1", help=f"address to listen on; others than loopback need ${TOKEN} [127.0.0.1]"
    )
    where.add_argument("--port", type=int, default=8080, help="port to listen on; 0 takes a free one [8080]")
    what = parser.add_argument_group("what is served")
    what.add_argument("--index", help="Lucene index for POST /v1/search: a folder or a prebuilt index")
    what.add_argument(
        "--also", action="append", default=[], metavar="NAME[=FILE]",
        help="a further reranker, chosen by `model`, with settings from a YAML file; --rerank.engine applies to it too",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-requests", type=int, default=256, help="requests at once; more are answered with 429 [256]"
    )
    limits.add_argument("--max-documents", type=int, default=1000, help="documents of a request [1000]")
    limits.add_argument("--max-body-mb", type=float, default=16, help="megabytes of a request [16]")
    limits.add_argument("--body-seconds", type=float, default=30, help="seconds in which a body has to arrive [30]")
    limits.add_argument("--drain-seconds", type=int, default=60, help="seconds to finish requests after SIGTERM [60]")
    return parser


def _rerankers(name: str | None, tree: Tree, also: Sequence[str]) -> Mapping[str, Reranker]:
    """The rerankers by name; their settings are checked, and nothing is loaded. UsageError for a name that occurs twice."""
    if name is None:
        raise UsageError("serve needs --rerank NAME")
    first = Reranker(name, **tree)
    rerankers = {first.name: first}
    for word in also:
        other, _, file = word.partition("=")
        settings = {"engine": tree["engine"]} if "engine" in tree else {}
        also_served = Reranker(other, **settings, **({"config": file} if file else {}))
        if also_served.name in rerankers:
            raise UsageError(f"--also {word}: {also_served.name} is already served; every reranker needs its own name")
        rerankers[also_served.name] = also_served
    return rerankers


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """The socket to serve on. UsageError if the address can't be used."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{host}:{port} can't be used: {reason}; name another address with --host and --port"
        ) from None


async def _serve(
    rerankers: Mapping[str, Reranker], options: argparse.Namespace, listening: socket.socket, token: str | None
) -> None:
    import uvicorn

    from pyserini_reasonrank.serve.app import Limits, closing, create_app
    from pyserini_reasonrank.serve.searcher import IndexSearcher

    limits = Limits(
        options.max_requests, options.max_documents, int(options.max_body_mb * (1 << 20)), options.body_seconds
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(closing(rerankers))
        searcher = await stack.enter_async_context(IndexSearcher(options.index)) if options.index else None
        for reranker in rerankers.values():
            await asyncio.to_thread(reranker.load)
        for warning in dict.fromkeys(warning for one in rerankers.values() for warning in one.warnings):
            print(f"warning: {warning}", file=sys.stderr)
        app = create_app(rerankers, limits=limits, searcher=searcher, token=token)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off",
            timeout_graceful_shutdown=options.drain_seconds, timeout_keep_alive=30,
        )  # fmt: skip
        host, port = listening.getsockname()[:2]
        print(f"serving {', '.join(rerankers)} on http://{host}:{port} (API page: /docs)", file=sys.stderr, flush=True)
        await uvicorn.Server(config).serve(sockets=[listening])
