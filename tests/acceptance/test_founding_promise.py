"""The founding note: a worker that cannot start makes the very next enqueue say why, and nothing is stored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.acceptance.apps import BROKEN_IMPORT, GREET, greeting_app
from tests.support.dev import Dev, until, write

FOUNDING_SENTENCE = r"^worker unhealthy: worker exited with status 1 after \d+ms without claiming any runs\n"


@dataclass(frozen=True)
class Breakage:
    """A way to break a worker's start: what is saved, and what the refusal says."""

    files: dict[str, str]
    says: str
    tells: tuple[str, ...] = ()


TOP = "from pathlib import Path\nfrom tako import Context, workflow\n"
BREAKAGES = {
    "a typo": Breakage(
        {"workflows/greet.py": BROKEN_IMPORT},
        says=FOUNDING_SENTENCE,
        tells=("ModuleNotFoundError: No module named 'strin'", "workflows/greet.py:3"),
    ),
    "a syntax error": Breakage(
        {"workflows/greet.py": GREET.replace("from string import Template", "from string import import")},
        says=FOUNDING_SENTENCE,
        tells=("SyntaxError", "workflows/greet.py:3"),
    ),
    "a missing package": Breakage(
        {"workflows/greet.py": GREET.replace("from string import", "import not_installed_here\nfrom string import")},
        says=FOUNDING_SENTENCE,
        tells=("No module named 'not_installed_here'", "workflows/greet.py:3"),
    ),
    "sys.exit(0) at import": Breakage(
        {"workflows/greet.py": GREET.replace("from string", "import sys; sys.exit(0)\nfrom string")},
        says=r"^worker unhealthy: worker exited with status 0 after \d+ms without claiming any runs\n",
    ),
    "os.kill at import": Breakage(
        {"workflows/greet.py": GREET.replace("from string", "import os; os.kill(os.getpid(), 9)\nfrom string")},
        says=r"^worker unhealthy: worker was killed by SIGKILL after \d+ms without claiming any runs\n",
    ),
    "an endless import": Breakage(
        {"workflows/greet.py": GREET.replace("from string", "while True: pass\nfrom string")},
        says=r"^worker unhealthy: worker did not become ready within 3s \(workflows/greet.py:3, in <module>",
    ),
}
CONFIG = '[workflows]\nboot_timeout = "3s"\nidle_timeout = "30s"\n'


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_worker_that_cannot_start_makes_the_next_enqueue_say_why(folder: Path, breakage: Breakage) -> None:
    write(folder, greeting_app(**{"tako.toml": CONFIG}))
    with Dev(folder) as dev:
        assert dev.http("/enqueue/greet", {"name": "before"}).status == 200
        until(lambda: (folder / "delivered.txt").exists(), what="the app works")
        stored = len(dev.runs())

        write(folder, breakage.files)
        refused = dev.http("/enqueue/greet", {"name": "Ada"})
        assert refused.status == 503, refused.body
        assert re.search(breakage.says, refused.json()["error"]), refused.json()["error"]
        assert all(part in refused.json()["error"] for part in breakage.tells), refused.json()["error"]
        assert "nothing was enqueued" in refused.json()["error"]
        assert len(dev.runs()) == stored
        assert dev.tako("status").returncode == 1

        write(folder, {"workflows/greet.py": GREET})
        mended = dev.http("/enqueue/greet", {"name": "Ada"})
        assert mended.status == 200, mended.body
        until(lambda: "Hello Ada" in (folder / "delivered.txt").read_text(), what="the same request succeeds")
        assert dev.tako("status").returncode == 0


def test_an_interpreter_that_is_not_there_is_named(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        until(lambda: dev.json("status")["groups"][0]["state"] == "healthy", what="the first probe")
        mark = dev.mark()
        write(folder, {"tako.toml": 'python = ".venv/bin/python"\n'})
        dev.wait_for("could not be spawned", after=mark)

        refused = dev.tako("enqueue", "greet", "name=Ada")
        assert refused.returncode == 1
        assert "worker could not be spawned: [Errno 2] No such file or directory: '.venv/bin/python'" in refused.stderr


def test_a_name_that_nothing_declares_is_refused_with_the_nearest(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        refused = dev.http("/enqueue/great", {"name": "Ada"})
        assert refused.json()["code"] == "unknown_workflow"
        assert "greet" in refused.json()["error"]
        assert dev.runs() == []


def test_arguments_that_do_not_fit_are_refused_before_anything_is_stored(folder: Path) -> None:
    write(folder, greeting_app())
    with Dev(folder) as dev:
        for arguments, named in (({}, "name"), ({"name": 1}, "name"), ({"name": "x", "nam": "y"}, "nam")):
            refused = dev.http("/enqueue/greet", arguments)
            assert refused.json()["code"] == "payload", refused.body
            assert repr(named) in refused.json()["error"] or named in refused.json()["error"]
        assert dev.runs() == []
