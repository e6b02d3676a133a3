"""The server around a model: MLflow's endpoints, limits, and errors that say what is wrong."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

from mlflow.version import VERSION
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipelines.reloading import Reloader
from pipelines.scoring import Refusal

log = logging.getLogger(__name__)

JSON = "application/json"
#: The header that tells which model has answered, such as ``models:/sines/3``.
MODEL_HEADER = "X-Unroll-Model"
#: Seconds for which what is still sent of too large a body is thrown away: who is cut off while
#: sending does not read the reply.
_PATIENCE = 3.0
#: Seconds that a client may take to send a body: who waits meanwhile is counted among the waiting.
_BODY_PATIENCE = 60.0
#: MLflow's names of errors that no model makes.
_CODES = {404: "ENDPOINT_NOT_FOUND", 503: "TEMPORARILY_UNAVAILABLE"}


class _Error(Response):
    """An error in MLflow's form."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps({"error_code": code, "message": message})
        super().__init__(content, status, headers, JSON)


class _Early(_Error):
    """Says what is wrong while the body is still being sent, and hangs up."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message, {**(headers or {}), "Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replies at once, and ends the reply when the client has had time to see it."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


class ScoringServer:
    """Answers MLflow's clients.

    One thread asks the model, one request after the other: torch uses the cores by itself, and
    models need not bear several threads. Meanwhile ``/ping`` is answered.

    Args:
        reloader: Has the model.
        max_request_bytes: Largest body.
        max_waiting: Requests that may wait for the model, or be on their way here; those beyond
            are sent away before their bodies are read, so that these cannot fill the memory.
    """

    def __init__(self, reloader: Reloader, max_request_bytes: int, max_waiting: int) -> None:
        self._reloader = reloader
        self._max_request_bytes, self._max_waiting = max_request_bytes, max_waiting
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "scoring")

    def app(self) -> Starlette:
        """Returns the ASGI application."""
        return Starlette(
            routes=[
                Route("/ping", self._ping),
                Route("/health", self._ping),
                Route("/version", self._version),
                Route("/invocations", self._invocations, methods=["POST"]),
            ],
            exception_handlers={HTTPException: self._not_there},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._reloader.start()
        yield
        self._reloader.stop()
        self._thread.shutdown()

    async def _ping(self, request: Request) -> Response:
        return Response("\n", media_type=JSON)

    async def _version(self, request: Request) -> Response:
        return Response(VERSION, media_type=JSON)

    async def _not_there(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "BAD_REQUEST")
        said = f"{request.method} {request.url.path}: {error.detail}; POST to /invocations"
        return _Error(error.status_code, code, said, error.headers)

    async def _invocations(self, request: Request) -> Response:
        if self._waiting > self._max_waiting:
            said = f"{self._max_waiting} requests are waiting already: try again in a second"
            return _Early(503, _CODES[503], said, {"Retry-After": "1"})
        self._waiting += 1
        try:
            async with asyncio.timeout(_BODY_PATIENCE):
                body = await self._body(request)
            if body is None:
                said = (
                    f"the body is larger than {self._max_request_bytes:,} bytes: send less at a "
                    "time, or start the server with a larger --max_request_bytes"
                )
                return _Early(413, "BAD_REQUEST", said)
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._answer, body, request.headers.get("content-type")
            )
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except TimeoutError:
            said = f"the body did not come within {_BODY_PATIENCE:.0f} seconds: send it again"
            return _Early(408, "BAD_REQUEST", said)
        finally:
            self._waiting -= 1

    async def _body(self, request: Request) -> bytes | None:
        """Returns a request's body; None as soon as it is too large."""
        if int(request.headers.get("content-length", 0)) > self._max_request_bytes:
            return None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_request_bytes:
                return None
        return bytes(body)

    def _answer(self, body: bytes, content_type: str | None) -> Response:
        """Asks the model, in its thread."""
        model = self._reloader.model
        headers = {MODEL_HEADER: quote(model.name, safe="/:@")}
        try:
            return Response(model.score(body, content_type), 200, headers, JSON)
        except Refusal as refusal:
            return _Error(refusal.status, refusal.code, refusal.message, headers)
        except Exception:
            log.exception("a request to %s failed", model.name)
            said = "the server has made a mistake; its log says which"
            return _Error(500, "INTERNAL_ERROR", said, headers)
