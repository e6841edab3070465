"""The pages docs/howto do what they say: their files are written into a folder, and run with the real frameworks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages

HOWTO = Path(__file__).parents[2] / "docs/howto"

MORE = {
    "testing": {},
    "fan-out": {"workflows/__init__.py": ""},
    "fastapi": {
        "test_it.py": """
            import asyncio
            import app, httpx, workflows.welcome

            def test_it(engine):
                async def story():
                    transport = httpx.ASGITransport(app.app)
                    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                        run = (await client.post("/signup/ada@example.com")).json()["run"]
                        await engine.adrain()
                        assert (await client.get(f"/runs/{run}")).json() == {"status": "succeeded"}
                        with engine.unhealthy():
                            assert (await client.post("/signup/bob@example.com")).status_code == 503
                asyncio.run(story())
        """
    },
    "flask": {
        "test_it.py": """
            import app, flask, tako

            def test_the_app_that_the_workflow_imports(engine, monkeypatch):
                client = app.app.test_client()
                monkeypatch.setattr("tako.sdk.startup.hooks", [])
                run = client.post("/signup/ada@example.com").json["run"]
                assert tako.get_run(run).result() == "from news@example.com to ada@example.com"
                with engine.unhealthy():
                    assert client.post("/signup/ada@example.com").status_code == 503

            def test_an_app_that_is_made_when_the_worker_starts(engine):
                @tako.workflow
                def name(ctx: tako.Context) -> str:
                    return flask.current_app.name

                assert name.enqueue().result() == "shop"
        """
    },
    "django": {
        "manage.py": """
            import os, sys
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
            from django.core.management import execute_from_command_line
            execute_from_command_line(sys.argv)
        """,
        "shop/__init__.py": "",
        "shop/models.py": """
            from django.db import models

            class Order(models.Model):
                item = models.CharField(max_length=100)
                state = models.CharField(max_length=20, default="new")

                class Meta:
                    app_label = "shop"
        """,
        "shop/urls.py": """
            from django.urls import path
            from shop.views import order
            urlpatterns = [path("order/<item>", order)]
        """,
        "workflows/__init__.py": "",
    },
}
COMMANDS = {"django": ["manage.py", "test", "--parallel=1"]}


@pytest.mark.parametrize("page", MORE)
def test_a_page_works_as_it_is_printed(page: str, tmp_path: Path) -> None:
    files = pages.files_of(HOWTO / f"{page}.md")
    assert len(files) > 1

    pages.works(tmp_path, {**MORE[page], **files}, *COMMANDS.get(page, ()))
