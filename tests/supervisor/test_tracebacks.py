"""What is told of a traceback: the error, and the innermost line of the app's own files."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tako.supervisor import tracebacks


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    return tmp_path


def printed(app: Path, code: str, *, file: str = "workflows/send_email.py", more: str = "pass") -> list[str]:
    """What Python really prints when it imports this file."""
    (app / file).write_text(textwrap.dedent(code))
    module = file.removesuffix(".py").replace("/", ".")
    command = f"import sys; sys.path[0] = {str(app)!r}; {more}; import {module}"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stderr.splitlines()


def test_an_import_error_is_told_with_the_line_that_imports(app: Path) -> None:
    lines = printed(app, "import os\n\nfrom jinja3 import Environment\n")

    assert tracebacks.tail(lines, root=app) == (
        "ModuleNotFoundError: No module named 'jinja3'\n  workflows/send_email.py:3  from jinja3 import Environment"
    )


def test_the_innermost_frame_of_the_apps_own_files_counts_not_that_of_a_library(app: Path) -> None:
    lines = printed(app, "import json\n\ndata = json.loads('{')\n")

    assert tracebacks.tail(lines, root=app) == (
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
        "  workflows/send_email.py:3  data = json.loads('{')"
    )


def test_a_library_inside_the_apps_folder_is_not_the_apps_own(app: Path) -> None:
    library = app / ".venv" / "lib"
    library.mkdir(parents=True)
    (library / "broken.py").write_text("1 / 0\n")
    lines = printed(app, "import broken\n", more=f"sys.path.append({str(library)!r})")

    assert tracebacks.tail(lines, root=app) == (
        "ZeroDivisionError: division by zero\n  workflows/send_email.py:1  import broken"
    )


def test_a_syntax_error_is_told_with_the_line_that_has_it(app: Path) -> None:
    lines = printed(app, "x = 1\ndef send(:\n    pass\n")

    assert tracebacks.tail(lines, root=app) == "SyntaxError: invalid syntax\n  workflows/send_email.py:2  def send(:"


def test_a_syntax_error_printed_without_the_frames_that_led_to_it_is_told_alike(app: Path) -> None:
    handled = ["Traceback (most recent call last):", '  File "/usr/lib/x.py", line 1, in <module>', "OSError: no"]
    lines = [*handled, *printed(app, "x = 1\ndef send(:\n    pass\n")[2:]]
    assert "Traceback" not in "".join(lines[3:])

    assert tracebacks.tail(lines, root=app) == "SyntaxError: invalid syntax\n  workflows/send_email.py:2  def send(:"


def test_of_chained_errors_the_last_one_is_told(app: Path) -> None:
    lines = printed(app, "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('rate') from e\n")

    assert tracebacks.tail(lines, root=app) == (
        "KeyError: 'rate'\n  workflows/send_email.py:4  raise KeyError('rate') from e"
    )


def test_lines_around_a_traceback_do_not_disturb(app: Path) -> None:
    lines = ["starting", *printed(app, "1 / 0\n"), "shutting down"]

    assert (tracebacks.tail(lines, root=app) or "").startswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("lines", [[], ["nothing here"], ["Traceback (most recent call last):"]])
def test_without_a_traceback_nothing_is_told(app: Path, lines: list[str]) -> None:
    assert tracebacks.tail(lines, root=app) is None


def test_an_error_outside_the_app_is_told_without_a_place(app: Path) -> None:
    lines = ["Traceback (most recent call last):", '  File "/usr/lib/x.py", line 1, in <module>', "OSError: no"]

    assert tracebacks.tail(lines, root=app) == "OSError: no"


def test_an_app_folder_behind_a_link_is_still_the_apps_own(app: Path, tmp_path: Path) -> None:
    lines = printed(app, "1 / 0\n")
    link = tmp_path.parent / (tmp_path.name + "-link")
    link.symlink_to(app)

    assert "workflows/send_email.py:1  1 / 0" in (tracebacks.tail(lines, root=link) or "")


def hung(app: Path, code: str, *, more: str = "pass") -> list[str]:
    """What faulthandler really dumps of a file that hangs."""
    (app / "workflows" / "report.py").write_text(textwrap.dedent(code))
    command = (
        f"import sys, faulthandler, time; sys.path[0] = {str(app)!r}; {more}; "
        "faulthandler.dump_traceback_later(0.2, exit=True); import workflows.report"
    )
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stderr.splitlines()


def test_a_hang_is_told_with_file_line_function_and_source(app: Path) -> None:
    lines = hung(app, "import time\n\n\ndef load():\n    time.sleep(60)\n\n\nload()\n")

    assert tracebacks.hang_frame(lines, root=app) == "workflows/report.py:5, in load: time.sleep(60)"


def test_a_hang_in_a_library_is_told_with_the_line_that_led_there(app: Path) -> None:
    lines = hung(app, "import socket\n\na, b = socket.socketpair()\nf = a.makefile('rb')\nf.read(1)\n")

    assert tracebacks.hang_frame(lines, root=app) == "workflows/report.py:5, in <module>: f.read(1)"


def test_of_several_threads_the_main_one_counts(app: Path) -> None:
    thread = "import threading; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    lines = hung(app, "import time\ntime.sleep(60)\n", more=thread)

    assert tracebacks.hang_frame(lines, root=app) == "workflows/report.py:2, in <module>: time.sleep(60)"


def test_without_a_dump_no_place_is_told(app: Path) -> None:
    assert tracebacks.hang_frame(["still importing"], root=app) is None


def test_a_syntax_error_without_frames_has_a_place(tmp_path: Path) -> None:
    printed = [
        '  File "workflows/greet.py", line 3',
        "    from string import import",
        "                       ^^^^^^",
        "SyntaxError: invalid syntax",
    ]
    assert tracebacks.tail(printed, root=tmp_path) == (
        "SyntaxError: invalid syntax\n  workflows/greet.py:3  from string import import"
    )
