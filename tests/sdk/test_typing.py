from __future__ import annotations

from pathlib import Path

from mypy import api

APP = Path(__file__).with_name("typed_app.py")


def test_users_under_strict_mypy_get_types_and_their_mistakes_are_found(tmp_path: Path) -> None:
    # Without our configuration: as an app sees the installed package, which says that it is typed.
    report, problems, _ = api.run(["--strict", "--config-file=", f"--cache-dir={tmp_path}", str(APP)])

    assert (report, problems) == ("Success: no issues found in 1 source file\n", "")
