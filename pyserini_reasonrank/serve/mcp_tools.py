"""The tools ``rerank`` and ``search_and_rerank`` for clients of the Model Context Protocol (MCP), over the ``mcp`` package.

Both give the results of the service with scores in (0, 1], the judgements by status and a warning about unusable answers.
A call that can't be served is a tool error of one sentence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, NotRequired, TextIO, TypedDict, cast

import anyio
import anyio.from_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, CallToolResult, ErrorData, InputRequiredResult, JSONRPCError, ToolAnnotations
from pydantic import Field, ValidationError
from starlette.routing import BaseRoute

from pyserini_reasonrank import __version__
from pyserini_reasonrank.errors import Failure, UsageError, nearest
from pyserini_reasonrank.ir.documents import document_text
from pyserini_reasonrank.results import RankedDocument, RankedDocuments
from pyserini_reasonrank.serve.admission import Full
from pyserini_reasonrank.serve.dialects import (
    counted,
    identified,
    one_sentence,
    rewrite_record,
    rewrite_warnings,
    warnings_of,
)
from pyserini_reasonrank.serve.service import DEPTH, NotHere, SearchQuery, Service
from pyserini_reasonrank.serve.stdio import Messages, take_stdin

PATH = "/mcp"
"""The route of the tools in a server over HTTP."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Query = Annotated[str, Field(min_length=1, description="the question or the keywords")]
Candidates = Annotated[
    list[str | dict[str, Any]],
    Field(min_length=1, description="texts, or objects with text (or contents) and optionally docid and title; best first"),
]  # fmt: skip
Index = Annotated[str | None, Field(description="the index of this server, by default")]
TopN = Annotated[int | None, Field(ge=1, description="how many results to return; all by default")]
Model = Annotated[str | None, Field(description="a reranker of this server; the first by default")]
K = Annotated[int, Field(ge=1, le=1000, description="how many results to return")]
Depth = Annotated[int | None, Field(ge=1, le=1000, description=f"hits to rerank; {DEPTH} by default, at least k")]
Rewrite = Annotated[
    bool | None, Field(description="search with a rewritten query; by default if this server has a rewriter")
]
Text = Annotated[bool, Field(description="add the text of each result")]
Reasoning = Annotated[bool, Field(description="add the reasoning of the model")]


class Result(TypedDict):
    """A document. ``index`` is its place among the candidates, from 0; ``score`` falls with ``rank``."""

    rank: int
    docid: str
    score: float
    index: NotRequired[int]
    first_stage_score: NotRequired[float]
    llm_score: NotRequired[float]
    segment: NotRequired[dict[str, int]]
    text: NotRequired[str]


class Answer(TypedDict):
    """Results, best first; the judgements of the model by status; warnings about answers that it could not use.

    ``dropped`` counts the texts that are not relevant, if the reranker leaves such texts out. ``rewrite`` has the text that
    was searched, if the query was rewritten.
    """

    model: str
    results: list[Result]
    statuses: dict[str, int]
    warnings: NotRequired[list[str]]
    reasoning: NotRequired[str]
    dropped: NotRequired[int]
    rewrite: NotRequired[dict[str, Any]]


class Tools(MCPServer[None]):
    """An MCP server with the tools of ``service``: ``rerank``, and ``search_and_rerank`` if it has an index."""

    def __init__(self, service: Service, index: str | None = None) -> None:
        super().__init__(
            "pyserini_reasonrank",
            version=__version__,
            instructions=f"Rerank texts for a query with reasoning LLMs. Rerankers: {', '.join(service.rerankers)}.",
            log_level="ERROR",
        )
        self._body_bytes = service.limits.body_bytes
        _add_rerank(self, service)
        if index is not None:
            _add_search(self, service, index)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. ToolError with one sentence if the arguments are invalid or the call can't be served."""
        schema = next((tool.input_schema for tool in await self.list_tools() if tool.name == name), None)
        if schema is not None and (
            unknown := next((key for key in arguments if key not in schema["properties"]), None)
        ):
            raise ToolError(f"{name} has no argument {unknown!r}{nearest(unknown, schema['properties'])}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            match error.__cause__:
                case ValidationError() as invalid:
                    message = one_sentence(invalid.errors())
                case UsageError() | NotHere() | Full() | Failure() as refused:
                    message = str(refused)
                case _:
                    raise
        raise ToolError(message)

    async def run_stdio_async(self) -> None:
        """Serve the client at the other end of stdin and stdout. A message longer than a body may be is refused."""
        limit = self._body_bytes

        def refuse(request: str | int | None) -> None:
            message = f"the message is longer than {limit:,} bytes, the limit of this server"
            error = JSONRPCError(jsonrpc="2.0", id=request, error=ErrorData(code=INVALID_REQUEST, message=message))
            anyio.from_thread.run(write.send, SessionMessage(error))

        stdin = anyio.wrap_file(cast(TextIO, Messages(take_stdin(), limit, refuse)))
        async with stdio_server(stdin) as (read, write):
            server = self._lowlevel_server
            await server.run(read, write, server.create_initialization_options())

    def routes(self, host: str) -> list[BaseRoute]:
        """The route of the tools, for a server on ``host`` whose middleware checks the token and the size of the body.

        On a loopback address, requests that a web page sends under another host name are refused.
        """
        app = self.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, max_request_body_size=self._body_bytes, host=host
        )
        return list(app.routes)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve the ``routes`` for the length of a block."""
        async with self.session_manager.run():
            yield


def _add_rerank(tools: MCPServer[None], service: Service) -> None:
    @tools.tool(annotations=_READS)
    async def rerank(
        query: Query,
        candidates: Candidates,
        top_n: TopN = None,
        model: Model = None,
        return_text: Text = False,
        return_reasoning: Reasoning = False,
    ) -> Answer:
        """Order texts by their relevance to a query, with a large language model."""
        documents, places = identified(candidates)
        async with service.admission.place():
            name, ranked = await service.rank(model, query, documents)
        return _answer(
            name, ranked, ranked.top(top_n or len(ranked)), places, text=return_text, reasoning=return_reasoning
        )


def _add_search(tools: MCPServer[None], service: Service, served: str) -> None:
    @tools.tool(
        annotations=_READS,
        description=f"Search the index {served} with BM25 and order the hits by their relevance to the query, with a large "
        "language model.",
    )
    async def search_and_rerank(
        query: Query,
        index: Index = None,
        k: K = 10,
        depth: Depth = None,
        model: Model = None,
        rewrite: Rewrite = None,
        return_text: Text = False,
        return_reasoning: Reasoning = False,
    ) -> Answer:
        if index not in (None, served):
            raise NotHere(f"index {index!r} is not served here; this server has {served}")
        async with service.admission.place():
            name, rewritten, ranked = await service.search(model, SearchQuery(query, rewrite), k, depth)
        answer: Answer = {"model": name, "results": [], "statuses": {}}
        if ranked is not None:
            answer = _answer(name, ranked, ranked.top(k), {}, text=return_text, reasoning=return_reasoning)
        if rewritten is not None:
            answer["rewrite"] = rewrite_record(rewritten, reasoning=return_reasoning)
        if notes := rewrite_warnings(rewritten):
            answer["warnings"] = [*answer.get("warnings", []), *notes]
        return answer


def _answer(
    model: str,
    ranked: RankedDocuments,
    top: Sequence[RankedDocument],
    places: Mapping[str, int],
    *,
    text: bool,
    reasoning: bool,
) -> Answer:
    """The answer with the documents ``top`` of ``ranked``; ``places`` has the index of each docid, {} after a search."""
    results = list[Result]()
    for one in top:
        result: Result = {"rank": one.rank, "docid": one.docid, "score": ranked.relevance(one)}
        if one.docid in places:
            result["index"] = places[one.docid]
        if one.first_stage_score is not None:
            result["first_stage_score"] = one.first_stage_score
        if one.llm_score is not None:
            result["llm_score"] = one.llm_score
        if one.segment is not None:
            result["segment"] = one.segment.place
        if text:
            given = one.document
            result["text"] = given if isinstance(given, str) else document_text(given) or ""
        results.append(result)
    answer: Answer = {"model": model, "results": results, "statuses": counted(ranked.statuses)}
    if ranked.dropped:
        answer["dropped"] = len(ranked.dropped)
    if notes := warnings_of(ranked.statuses):
        answer["warnings"] = notes
    if reasoning:
        answer["reasoning"] = ranked.reasoning
    return answer
