import pytest
import subscribers
from workflows.newsletter import newsletter

import app as web
from tako.testing import Engine
from workflows import newsletter as module


@pytest.fixture(autouse=True)
def _two_subscribers(engine: Engine) -> None:
    with web.app.app_context():
        subscribers.add("ada@example.com")
        subscribers.add("bob@example.com")


def test_every_subscriber_gets_it_from_our_sender(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    run = newsletter.enqueue(subject="news")

    assert run.result() == 2
    assert capsys.readouterr().out.splitlines() == [
        "from news@example.com to ada@example.com: news",
        "from news@example.com to bob@example.com: news",
    ]


def test_who_has_it_does_not_get_it_again_after_a_failure(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(module, "deliver", lambda address, subject: sent.append(address))

    with engine.fail(step="send-bob@example.com", error=ConnectionError()):
        run = newsletter.enqueue(subject="news")
        engine.drain()
    assert sent == ["ada@example.com"]
    engine.advance("1m")  # the backoff passes

    assert run.result() == 2
    assert sent == ["ada@example.com", "bob@example.com"]


def test_the_view_enqueues_and_is_503_while_workers_cannot_start(engine: Engine) -> None:
    client = web.app.test_client()

    assert client.post("/send/news").status_code == 202
    with engine.unhealthy():
        assert client.post("/send/news").status_code == 503
