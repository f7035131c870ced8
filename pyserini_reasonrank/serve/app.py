"""The routes of the server: ``/rerank`` in each dialect, ``/v1/search``, ``/v1/models``, ``/health``, ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from pyserini_reasonrank import __version__
from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.results import RankedDocuments
from pyserini_reasonrank.serve.admission import Full
from pyserini_reasonrank.serve.dialects import (
    RerankRequest,
    TeiRequest,
    counted,
    documents_of,
    error_body,
    identified,
    one_sentence,
    rerank_response,
    rewrite_record,
    rewrite_warnings,
    tei_response,
    warnings_of,
)
from pyserini_reasonrank.serve.metrics import Measured, Metrics
from pyserini_reasonrank.serve.page import add_page
from pyserini_reasonrank.serve.protection import Protection
from pyserini_reasonrank.serve.service import DEPTH, NotHere, SearchQuery, Service

CLOSED_BY_CLIENT = 499  # as nginx logs it; nobody reads the response
_RERANK_PATHS = ("/v1/rerank", "/v2/rerank")


class SearchRequest(BaseModel):
    """``POST /v1/search``: search the index of the server, and rerank the hits."""

    query: Annotated[str, Field(min_length=1)]
    k: Annotated[int, Field(ge=1, le=1000, description="hits to search and to return")] = 10
    depth: Annotated[
        int | None, Field(ge=1, le=1000, description=f"hits to search and rerank [{DEPTH}, at least k]")
    ] = None
    rerank: Annotated[bool, Field(description="false returns the hits in the order of the search")] = True
    rewrite: Annotated[
        bool | None, Field(description="search with a rewritten query [true if this server has a rewriter]")
    ] = None
    model: Annotated[str | None, Field(description="a reranker of this server [the first]")] = None
    qid: Annotated[str | None, Field(min_length=1, description="name of the query in the journals [a number]")] = None
    return_reasoning: bool = False


def create_app(service: Service, *, token: str | None = None, routes: Sequence[BaseRoute] = ()) -> FastAPI:
    """The ASGI application. ``routes`` are further ones, under the same token and limits. The rerankers are not closed."""
    limits, rerankers, rewriter = service.limits, service.rerankers, service.rewriter
    metrics = Metrics(
        lambda: {name: one.tally for name, one in rerankers.items()},
        lambda: service.admission.active,
        lambda: {rewriter.name: rewriter.tally} if rewriter else {},
    )
    app = FastAPI(
        title="pyserini_reasonrank",
        version=__version__,
        summary="Rerank documents with reasoning LLMs, in the APIs of Cohere, Jina, vLLM and TEI.",
        docs_url=None,  # FastAPI's pages load their scripts from another server
        redoc_url=None,
    )
    _add_errors(app)
    _add_rerank(app, service)
    _add_search(app, service)
    _add_state(app, service, metrics)
    add_page(app)
    app.router.routes.extend(routes)
    app.add_middleware(Protection, token=token, max_bytes=limits.body_bytes, seconds=limits.body_seconds)
    paths = {path for route in app.routes if (path := getattr(route, "path", None))}
    app.add_middleware(Measured, metrics=metrics, paths=paths)
    return app


def _add_rerank(app: FastAPI, service: Service) -> None:
    async def rerank(request: Request, body: RerankRequest) -> Response:
        documents, places = identified(documents_of(body))
        name, ranked = await _admitted(service, request, service.rank(body.model, body.query, documents, qid=body.qid))
        tokens = ranked.prompt_tokens + ranked.output_tokens
        api = "2" if request.scope["path"].startswith("/v2") else "1"
        return JSONResponse(rerank_response(body, name, ranked, places, tokens, api))

    async def rerank_or_tei(request: Request, body: Annotated[RerankRequest | TeiRequest, Body()]) -> Response:
        if isinstance(body, RerankRequest):
            return await rerank(request, body)
        documents, places = identified(body.texts)
        _, ranked = await _admitted(service, request, service.rank(None, body.query, documents))
        return JSONResponse(tei_response(body, ranked, places), headers=_bad_headers(ranked))

    for path in _RERANK_PATHS:
        app.add_api_route(path, rerank, methods=["POST"], summary="Rerank (Cohere, Jina, vLLM)", operation_id=path[1:])
    app.add_api_route("/rerank", rerank_or_tei, methods=["POST"], summary="Rerank (vLLM, Jina; TEI with texts)")


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", summary="Search the index of this server and rerank the hits")
    async def search(request: Request, body: SearchRequest) -> dict[str, Any]:
        return await _admitted(service, request, _search(service, body))


async def _search(service: Service, body: SearchRequest) -> dict[str, Any]:
    service.reranker(body.model)
    query = SearchQuery(body.query, body.rewrite, body.qid)
    response: dict[str, Any] = {"query": body.query}
    notes = list[str]()
    if not body.rerank:
        rewritten, hits = await service.hits(query, body.k)
        response["results"] = hits
    else:
        name, rewritten, ranked = await service.search(body.model, query, body.k, body.depth)
        response["results"] = [] if ranked is None else _results(ranked, body.k)
        if ranked is not None:
            response |= {"model": name, "statuses": counted(ranked.statuses)}
            response |= {"reasoning": ranked.reasoning} if body.return_reasoning else {}
            notes += warnings_of(ranked.statuses)
    if rewritten is not None:
        response["rewrite"] = rewrite_record(rewritten, reasoning=body.return_reasoning)
        notes += rewrite_warnings(rewritten)
    return response | ({"warnings": notes} if notes else {})


def _results(ranked: RankedDocuments, k: int) -> list[dict[str, Any]]:
    return [
        {**one.document, "first_stage_score": one.first_stage_score, "relevance_score": ranked.relevance(one)}
        for one in ranked.top(k)
    ]


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/health", summary="Whether the server answers")
    async def health() -> dict[str, Any]:
        rewriter = {"rewriter": service.rewriter.name} if service.rewriter else {}
        return {
            "status": "ok",
            "rerankers": list(service.rerankers),
            **rewriter,
            "active": service.admission.active,
        }

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", summary="The rerankers of this server")
    async def models() -> dict[str, Any]:
        data = [{"id": name, "object": "model", "owned_by": "pyserini_reasonrank"} for name in service.rerankers]
        return {"object": "list", "data": data}


async def _admitted[T](service: Service, request: Request, job: Coroutine[Any, Any, T]) -> T:
    """Run ``job`` in a place of the admission; cancel it if the client goes away. Full if there is no place."""
    try:
        async with service.admission.place():
            task = asyncio.create_task(job)
            gone = asyncio.create_task(_gone(request))
            try:
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    raise HTTPException(CLOSED_BY_CLIENT, "the client closed the connection")
                return task.result()
            finally:
                gone.cancel()
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
    finally:
        job.close()  # has no effect if it ran; without a place it never starts


async def _gone(request: Request) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _bad_headers(ranked: RankedDocuments) -> dict[str, str]:
    """A header with unusable answers, for a response that is a plain list."""
    return {"x-warning": " ".join(notes)} if (notes := warnings_of(ranked.statuses)) else {}


def _add_errors(app: FastAPI) -> None:
    """Errors as one sentence, in the form that the client of the request reads."""

    def answer(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        tei = bool(getattr(request.state, "tei", False))
        return JSONResponse(error_body(message, status, tei=tei), status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        body = error.body if isinstance(error.body, dict) else {}
        request.state.tei = "texts" in body
        wanted = "TeiRequest" if "texts" in body else "RerankRequest"
        errors = [one for one in error.errors() if wanted in one["loc"]] or list(error.errors())
        cleaned = [{**one, "loc": [part for part in one["loc"] if part != wanted]} for one in errors]
        return answer(request, 422, one_sentence(cleaned))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(UsageError)
    async def unusable(request: Request, error: UsageError) -> Response:
        return answer(request, 422, str(error))

    @app.exception_handler(NotHere)
    async def missing(request: Request, error: NotHere) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(Full)
    async def full(request: Request, error: Full) -> Response:
        return answer(request, 429, str(error), {"Retry-After": str(error.retry_after)})

    @app.exception_handler(Failure)
    async def failed(request: Request, error: Failure) -> Response:
        return answer(request, 502, str(error))
