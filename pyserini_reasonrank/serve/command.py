"""``serve``: a rerank server for clients of Cohere, Jina, vLLM, TEI and MCP, with search where an index is given."""

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
from dataclasses import dataclass
from importlib.util import find_spec

from pyserini_reasonrank.api import Reranker, Rewriter
from pyserini_reasonrank.cli.arguments import Parser, between, command_parser, positive
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.engines.background_loop import BackgroundLoop, RunningLoop
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.serve.searcher import IndexSearcher
from pyserini_reasonrank.serve.service import Limits, Service
from pyserini_reasonrank.settings import flags, rewriters
from pyserini_reasonrank.settings.schema import Tree

TOKEN = "REASONRANK_TOKEN"
"""The environment variable with the token that clients have to send."""

_ENDING = (signal.SIGTERM, signal.SIGINT)
_STDOUT, _STDERR = 1, 2
_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C, then finish the requests that are being ranked. Returns the exit status."""
    name, tree, rest = flags.lift(argv)
    rewriter, rewriter_tree, rest = rewriters.lift(rest)
    options = _parser().parse_args(rest)
    needed = (*_NEEDED, "mcp") if options.mcp else _NEEDED
    if missing := [module for module in needed if find_spec(module) is None]:
        raise UsageError(f"serve needs {', '.join(missing)}: pip install 'pyserini-reasonrank[serve]'")
    if rewriter is not None and options.index is None:
        raise UsageError(f"{rewriters.PREFIX} needs --index: the queries of searches are rewritten")
    if options.mcp == "stdio":
        parts = _Parts(_rerankers(name, tree, options.also), _rewriter(rewriter, rewriter_tree))
        asyncio.run(_serve_stdio(parts, options))
        return SUCCESS
    token = os.environ.get(TOKEN) or None
    if token is None and not _is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} can be reached from other machines: set the environment variable {TOKEN} to a secret "
            "that clients send as Authorization: Bearer SECRET, or serve on 127.0.0.1"
        )
    parts = _Parts(_rerankers(name, tree, options.also), _rewriter(rewriter, rewriter_tree))
    with _listening(options.host, options.port) as listening:
        for number in _ENDING:
            signal.signal(number, lambda *_: sys.exit(SUCCESS))
        asyncio.run(_serve(parts, options, listening, token))
    return SUCCESS


def _parser() -> Parser:
    parser = command_parser(
        "serve",
        "--rerank upr",
        "--rerank reasonrank --rerank.engine.name openai --rerank.engine.base_url http://host:8000/v1 --index msmarco-v1-passage",
        "--rerank upr --also rank-r1=rank-r1.yaml --port 9000",
        "--rerank upr --index msmarco-v1-passage --mcp",
        "--rerank upr --index msmarco-v1-passage --rewrite keywords",
        usage="--rerank NAME [--rerank.KEY VALUE ...] [--rewrite NAME [--rewrite.KEY VALUE ...]] [flags]",
    )  # fmt: skip
    where = parser.add_argument_group("address")
    where.add_argument(
        "--host", default="127.0.0.1", help=f"address to listen on; others than loopback need ${TOKEN} [127.0.0.1]"
    )
    where.add_argument(
        "--port", type=between(0, 65535), default=8080, help="port to listen on; 0 takes a free one [8080]"
    )
    what = parser.add_argument_group("what is served")
    what.add_argument("--index", help="Lucene index for POST /v1/search: a folder or a prebuilt index")
    what.add_argument(
        "--also", action="append", default=[], metavar="NAME[=FILE]",
        help="a further reranker, chosen by `model`, with settings from a YAML file; --rerank.engine applies to it too",
    )  # fmt: skip
    what.add_argument(
        "--mcp", nargs="?", const="stdio", choices=["stdio", "http"],
        help="tools for MCP clients: stdio serves the client that started this process, and nobody else; "
        "http adds the route /mcp to the server [none; stdio if --mcp has no value]",
    )  # fmt: skip
    what.add_argument(
        f"{rewriters.PREFIX}", metavar="NAME",
        help=f"rewrite the queries of searches with this rewriter; its settings are {rewriters.PREFIX}.KEY VALUE",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-requests", type=positive(int), default=256, help="requests at once; more are answered with 429 [256]"
    )
    limits.add_argument("--max-documents", type=positive(int), default=1000, help="documents of a request [1000]")
    limits.add_argument("--max-body-mb", type=positive(float), default=16, help="megabytes of a request [16]")
    limits.add_argument(
        "--body-seconds", type=positive(float), default=30, help="seconds in which a body has to arrive [30]"
    )
    limits.add_argument(
        "--drain-seconds", type=between(0, 86_400), default=60, help="seconds to finish requests after SIGTERM [60]"
    )
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


def _rewriter(name: str | None, tree: Tree) -> Rewriter | None:
    """The rewriter of searches, whose settings are checked, and nothing is loaded; None if none is named."""
    return None if name is None else Rewriter(name, **tree)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a server loads: rerankers by name, and the rewriter of its searches if it has one."""

    rerankers: Mapping[str, Reranker]
    rewriter: Rewriter | None = None

    @property
    def all(self) -> list[Reranker | Rewriter]:
        return [*self.rerankers.values(), *([self.rewriter] if self.rewriter else [])]

    def load(self, loop: BackgroundLoop) -> None:
        """Load the models, whose calls ``loop`` makes, and print the warnings about them."""
        for part in self.all:
            part.load(loop)
        for warning in dict.fromkeys(warning for part in self.all for warning in part.warnings):
            print(f"warning: {warning}", file=sys.stderr)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """The socket to serve on. UsageError if the address can't be used."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
        # accepted sockets inherit it; asyncio sets it only if the socket has the protocol number, which this one has not
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{host}:{port} can't be used: {reason}; name another address with --host and --port"
        ) from None


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        options.max_requests, options.max_documents, int(options.max_body_mb * (1 << 20)), options.body_seconds
    )


async def _serve(parts: _Parts, options: argparse.Namespace, listening: socket.socket, token: str | None) -> None:
    """Serve over HTTP until a signal."""
    import uvicorn

    from pyserini_reasonrank.serve.app import create_app

    async with AsyncExitStack() as stack:
        service = await _started(stack, parts, options)
        await asyncio.to_thread(parts.load, RunningLoop())
        routes = []
        if options.mcp:
            from pyserini_reasonrank.serve.mcp_tools import Tools

            tools = Tools(service, options.index)
            routes = tools.routes(options.host)
            await stack.enter_async_context(tools.serving())
        app = create_app(service, token=token, routes=routes)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", proxy_headers=False,
            timeout_graceful_shutdown=options.drain_seconds, timeout_keep_alive=30,
        )  # fmt: skip
        host, port = listening.getsockname()[:2]
        pages = "API page: /docs; MCP: /mcp" if options.mcp else "API page: /docs"
        print(f"serving {', '.join(parts.rerankers)} on http://{host}:{port} ({pages})", file=sys.stderr, flush=True)
        server = uvicorn.Server(config)
        for number in _ENDING:  # uvicorn raises the signal again once it has drained, to no effect
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        await server.serve(sockets=[listening])


async def _serve_stdio(parts: _Parts, options: argparse.Namespace) -> None:
    """Serve the MCP client at the other end of stdin and stdout until it closes stdin.

    The client is answered at once: calls wait until the models are loaded. Only messages of the protocol reach stdout.
    """
    client = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    from pyserini_reasonrank.serve.mcp_tools import Tools

    async with AsyncExitStack() as stack:
        service = await _started(stack, parts, options)
        tools = Tools(service, options.index)
        loading = asyncio.create_task(asyncio.to_thread(parts.load, RunningLoop()))
        loading.add_done_callback(_report)
        print(f"serving {', '.join(parts.rerankers)} to an MCP client on stdin and stdout", file=sys.stderr, flush=True)
        os.dup2(client, _STDOUT)  # the mcp package takes it over
        try:
            await tools.run_stdio_async()
        finally:
            os.dup2(_STDERR, _STDOUT)


async def _started(stack: AsyncExitStack, parts: _Parts, options: argparse.Namespace) -> Service:
    """The service, with its search process; ``stack`` closes both."""
    for part in parts.all:
        stack.push_async_callback(part.aclose)
    searcher = await stack.enter_async_context(IndexSearcher(options.index)) if options.index else None
    return Service(parts.rerankers, _limits(options), searcher, parts.rewriter)


def _report(loading: asyncio.Task[None]) -> None:
    """Print why the models could not be loaded; calls of the client fail with the same message."""
    if not loading.cancelled() and (error := loading.exception()):
        print(f"error: {error}", file=sys.stderr, flush=True)
