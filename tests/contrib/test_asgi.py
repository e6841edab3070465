from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket

import tako
from tako import AsyncContext, errors, workflow
from tako.contrib.asgi import Unhealthy
from tako.testing import Engine


def fastapi_app() -> FastAPI:
    @workflow
    async def greet(ctx: AsyncContext, name: str) -> str:
        return f"Hello, {name}!"

    app = FastAPI()
    app.add_middleware(Unhealthy)

    @app.post("/greet/{name}")
    async def enqueue(name: str) -> dict[str, str]:
        run = await greet.aenqueue(name=name)
        return {"run": run.id}

    @app.post("/by-hand")
    async def by_hand() -> dict[str, str]:
        try:
            await greet.aenqueue(name="Ada")
        except tako.WorkerUnhealthy:
            return {"sorry": "later"}
        return {}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "first"
            await greet.aenqueue(name="Ada")

        return StreamingResponse(parts())

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    return app


class Client:
    """Sends requests to an ASGI app, each in a loop of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def get(self, path: str) -> httpx.Response:
        return self._send("GET", path)

    def post(self, path: str) -> httpx.Response:
        return self._send("POST", path)

    def _send(self, method: str, path: str) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                return await client.request(method, path)

        return asyncio.run(send())


@pytest.fixture
def client(engine: Engine) -> Client:
    return Client(fastapi_app())


def test_a_refused_enqueue_is_answered_with_503_and_when_to_try_again(engine: Engine, client: Client) -> None:
    with engine.unhealthy():
        refused = client.post("/greet/Ada")

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert client.post("/greet/Ada").status_code == 200


def test_the_reason_is_not_told_to_the_world_but_to_the_log(
    engine: Engine, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.unhealthy():
        refused = client.post("/greet/Ada")

    assert refused.text == "This cannot be done right now. Try again in 1 s.\n"
    assert "answered 503: worker unhealthy: worker exited with status 1 after 84ms" in caplog.text


@pytest.mark.usefixtures("development")
def test_in_development_the_reason_is_in_the_body(engine: Engine, client: Client) -> None:
    with engine.unhealthy():
        refused = client.post("/greet/Ada")

    assert refused.text.startswith(
        "worker unhealthy: worker exited with status 1 after 84ms without claiming any runs\n"
    )
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"


def test_an_error_that_the_app_catches_is_the_apps(engine: Engine, client: Client) -> None:
    with engine.unhealthy():
        assert client.post("/by-hand").json() == {"sorry": "later"}


def test_other_errors_and_other_protocols_are_left_alone(client: Client) -> None:
    assert client.get("/broken").status_code == 500
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b"", "subprotocols": []}
    asyncio.run(client.app(scope, receive, send))
    assert [message.get("text") for message in sent] == [None, "hello", None]


def test_an_answer_that_has_begun_is_not_begun_anew(engine: Engine, client: Client) -> None:
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "query_string": b""}
    with engine.unhealthy(), pytest.raises(tako.WorkerUnhealthy):
        asyncio.run(client.app(scope, receive, send))
    assert sent == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.StoreUnavailable("disk full"), "5"),
        (errors.QueueFull("full"), "5"),
        (errors.WorkerUnhealthy("worker unhealthy: …", detail={"retry_after": 2.2}), "3"),
        (errors.WorkerUnhealthy("worker unhealthy: …", detail={"retry_after": 0}), "5"),
        (errors.DuplicateRun("taken"), "5"),
        (errors.EnqueueError("workflow runtime is draining"), "5"),
        (errors.EnqueueUnknown("the connection died"), None),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_what_may_be_gone_when_the_client_comes_back_is_a_503(error: Exception, seconds: str | None) -> None:
    client = failing(error)

    refused = client.get("/")

    assert (refused.status_code, refused.headers.get("retry-after")) == (503, seconds)
    assert client.get("/fine").status_code == 200


@pytest.mark.parametrize(
    "error",
    [errors.PayloadError("no"), errors.UnknownWorkflow("no"), errors.NoEngine("no")],
    ids=lambda value: value.code,
)
def test_a_bug_of_the_app_is_no_503_and_reaches_who_watches_for_bugs(error: Exception) -> None:
    assert failing(error).get("/").status_code == 500


def failing(error: Exception) -> Client:
    """A Starlette app with an endpoint that raises this."""

    async def fail(request: Request) -> Response:
        raise error

    app = Starlette(routes=[Route("/", fail), Route("/fine", lambda request: JSONResponse({}))])
    app.add_middleware(Unhealthy)
    return Client(app)
