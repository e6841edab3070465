from __future__ import annotations

import asyncio

import flask
import pytest
from flask.testing import FlaskClient

import tako.contrib.flask
from tako import AsyncContext, Context, workflow
from tako.testing import Engine


def make_app(name: str = "shop") -> flask.Flask:
    app = flask.Flask(name)
    app.testing = True
    tako.contrib.flask.init(app)

    @app.post("/greet/<name>")
    def enqueue(name: str) -> str:
        return tako.enqueue("greet", {"name": name}).id

    return app


@pytest.fixture
def client(engine: Engine) -> FlaskClient:
    @workflow
    def greet(ctx: Context, name: str) -> str:
        return f"Hello, {name}!"

    return make_app().test_client()


def test_a_refused_enqueue_is_answered_with_503_and_when_to_try_again(
    engine: Engine, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.unhealthy():
        refused = client.post("/greet/Ada")

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.text == "This cannot be done right now. Try again in 1 s.\n"
    assert "worker unhealthy: worker exited with status 1" in caplog.text
    assert client.post("/greet/Ada").status_code == 200


def test_a_bug_of_the_app_is_no_503(engine: Engine) -> None:
    @workflow
    def greet(ctx: Context, name: int) -> str:
        return f"Hello, {name}!"

    client = make_app().test_client()
    client.application.config["PROPAGATE_EXCEPTIONS"] = False

    assert client.post("/greet/Ada").status_code == 500


@pytest.mark.usefixtures("development")
def test_in_development_the_reason_is_in_the_body(engine: Engine, client: FlaskClient) -> None:
    with engine.unhealthy():
        refused = client.post("/greet/Ada")

    assert refused.text.startswith(
        "worker unhealthy: worker exited with status 1 after 84ms without claiming any runs\n"
    )


def test_handlers_and_steps_have_an_app_context_each(engine: Engine) -> None:
    seen: list[tuple[str, object]] = []

    def look(item: int = 0) -> None:
        seen.append((flask.current_app.name, flask.g.get("who")))

    @workflow
    def both(ctx: Context) -> None:
        flask.g.who = "the handler"
        look()
        ctx.step("look", look)
        ctx.map("all", look, [1, 2])
        look()

    make_app()
    both.enqueue()
    engine.drain()

    assert seen == [
        ("shop", "the handler"), ("shop", None), ("shop", None), ("shop", None), ("shop", "the handler")
    ]  # fmt: skip
    assert not flask.has_app_context()


def test_async_handlers_and_their_sync_steps_have_one_too(engine: Engine) -> None:
    def name() -> str:
        return flask.current_app.name

    @workflow
    async def both(ctx: AsyncContext) -> list[str]:
        await asyncio.sleep(0)
        return [name(), await ctx.step("name", name)]

    make_app()

    assert both.enqueue().result() == ["shop", "shop"]


def test_what_is_torn_down_with_the_context_is_torn_down_when_the_step_ends(engine: Engine) -> None:
    seen: list[str] = []
    app = make_app()

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        seen.append("closed")

    @workflow
    def work(ctx: Context) -> None:
        ctx.step("one", lambda: seen.append("step"))
        seen.append("handler goes on")

    work.enqueue()
    engine.drain()

    assert seen == ["step", "closed", "handler goes on", "closed"]


def test_of_several_apps_the_last_gives_the_context(engine: Engine) -> None:
    @workflow
    def name(ctx: Context) -> str:
        return flask.current_app.name

    make_app("first")
    make_app("second")

    assert name.enqueue().result() == "second"


def test_the_app_may_be_made_when_the_worker_starts(engine: Engine) -> None:
    tako.on_start(lambda: make_app("made late"))

    @workflow
    def name(ctx: Context) -> str:
        return flask.current_app.name

    assert name.enqueue().result() == "made late"
