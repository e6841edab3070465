import asyncio

import httpx
import pytest
from workflows.report import report

import app as web
import tako
from tako.testing import Engine
from workflows import report as module


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What was told, by key, as a provider with idempotency keys has it."""
    told: dict[str, str] = {}
    monkeypatch.setattr(module, "tell", told.__setitem__)
    return told


def test_a_report_adds_up_all_regions_and_is_told_once(engine: Engine, told: dict[str, str]) -> None:
    run = report.enqueue(month="2026-11")

    assert run.result() == "2026-11: 38 sold"
    assert list(told.values()) == ["2026-11: 38 sold"]


def test_a_crash_behind_the_mail_sends_no_second_one(engine: Engine, told: dict[str, str]) -> None:
    with engine.crash(after="tell"):
        run = report.enqueue(month="2026-11")
        engine.drain()
    engine.drain()

    assert run.status() == "succeeded"
    assert len(told) == 1


def test_a_service_that_does_not_answer_at_first_is_asked_again(engine: Engine, told: dict[str, str]) -> None:
    with engine.fail(step="fetch[1]", times=2, error=TimeoutError()):
        assert report.enqueue(month="2026-11").result() == "2026-11: 38 sold"


def test_the_endpoints(engine: Engine, told: dict[str, str]) -> None:
    async def story() -> None:
        transport = httpx.ASGITransport(web.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://reports") as client:
            made = (await client.post("/reports/2026-11")).json()
            again = (await client.post("/reports/2026-11")).json()
            assert made == again
            assert (await client.get(f"/reports/{made['id']}")).json() == {"status": "pending", "report": None}

            await engine.adrain()

            shown = (await client.get(f"/reports/{made['id']}")).json()
            assert shown == {"status": "succeeded", "report": "2026-11: 38 sold"}
            assert (await client.get("/reports/nonesuch")).status_code == 404

    asyncio.run(story())


def test_while_workers_cannot_start_the_answer_is_503(engine: Engine) -> None:
    async def story() -> httpx.Response:
        transport = httpx.ASGITransport(web.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://reports") as client:
            return await client.post("/reports/2026-11")

    with engine.unhealthy():
        refused = asyncio.run(story())

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert list(tako.runs()) == []
