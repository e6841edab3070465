from __future__ import annotations

import os
from pathlib import Path

import pytest

from tako.discovery import declarations
from tako.discovery.scan import Scan, is_workflow_file, scan

SEND = "from tako import workflow\n@workflow\ndef {name}(ctx): ...\n"
MAIL = "from tako import workflow\n@workflow(group='mail')\ndef {name}(ctx): ...\n"


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    before = target.stat().st_mtime_ns if target.exists() else 0
    target.write_text(text)
    if target.stat().st_mtime_ns <= before:
        os.utime(target, ns=(before + 1, before + 1))


def test_files_below_workflows_are_found_with_their_groups(tmp_path: Path) -> None:
    write(tmp_path, "workflows/__init__.py", "")
    write(tmp_path, "workflows/a.py", SEND.format(name="a"))
    write(tmp_path, "workflows/mail/welcome.py", MAIL.format(name="welcome"))

    found = scan(tmp_path)

    assert found.groups == ("default", "mail")
    assert found.files_of("default") == ["workflows/a.py"]
    assert found.files_of("mail") == ["workflows/mail/welcome.py"]
    assert found.group_of("welcome") == "mail"
    assert found.group_of("nobody") is None
    assert found.errors() == []


def test_a_package_may_hold_the_workflows(tmp_path: Path) -> None:
    write(tmp_path, "shop/__init__.py", "")
    write(tmp_path, "shop/workflows/pay.py", SEND.format(name="pay"))
    write(tmp_path, "not_a_package/workflows/no.py", SEND.format(name="no"))
    write(tmp_path, ".venv/__init__.py", "")
    write(tmp_path, ".venv/workflows/no.py", SEND.format(name="no"))

    assert [file.path for file in scan(tmp_path).files] == ["shop/workflows/pay.py"]


@pytest.mark.parametrize(
    "path",
    ["test_a.py", "a_test.py", "conftest.py", "_helper.py", "__init__.py", ".hidden.py", "_private/a.py", "a.txt",
     "__pycache__/a.py"],
)  # fmt: skip
def test_files_that_are_no_workflow_files_are_ignored(tmp_path: Path, path: str) -> None:
    write(tmp_path, f"workflows/{path}", SEND.format(name="a"))

    assert scan(tmp_path) == Scan()
    assert not is_workflow_file(f"workflows/{path}")


def test_the_same_rules_tell_whether_a_saved_path_matters() -> None:
    assert is_workflow_file("workflows/a.py")
    assert is_workflow_file("shop/workflows/deep/a.py")
    assert not is_workflow_file("shop/models.py")
    assert not is_workflow_file("a.py")


def test_an_app_without_workflows_has_none(tmp_path: Path) -> None:
    assert scan(tmp_path) == Scan()
    assert scan(tmp_path / "gone") == Scan()


def test_a_file_that_declares_nothing_belongs_to_no_group(tmp_path: Path) -> None:
    write(tmp_path, "workflows/helpers.py", "def add(a, b): return a + b\n")

    found = scan(tmp_path)

    assert found.files[0].groups == ()
    assert found.files_of("default") == []


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "workflows/a.py", SEND.format(name="a"))
    write(tmp_path, "workflows/b.py", SEND.format(name="b"))
    first = scan(tmp_path)
    read: list[str] = []
    real = declarations.read

    def reading(source: bytes, *, path: str) -> tuple[declarations.Declaration, ...]:
        read.append(path)
        return real(source, path=path)

    monkeypatch.setattr(declarations, "read", reading)

    write(tmp_path, "workflows/b.py", SEND.format(name="bb"))
    second = scan(tmp_path, first)

    assert read == ["workflows/b.py"]
    assert second.files[0] is first.files[0]
    assert second.group_of("bb") == "default"


def test_a_broken_file_keeps_its_last_known_groups_however_often_it_is_saved(tmp_path: Path) -> None:
    write(tmp_path, "workflows/a.py", MAIL.format(name="a"))
    known = scan(tmp_path)

    for text in ("def broken(:\n", "def still broken(:\n"):
        write(tmp_path, "workflows/a.py", text)
        known = scan(tmp_path, known)
        assert known.files_of("mail") == ["workflows/a.py"]
        assert known.files_of("default") == []
        assert "workflows/a.py:1: SyntaxError" in known.errors()[0]
        assert known.group_of("a") == "mail"


def test_a_broken_file_nobody_has_seen_whole_goes_to_the_groups_its_text_names(tmp_path: Path) -> None:
    write(tmp_path, "workflows/a.py", "@workflow(group='mail')\ndef broken(:\n")
    write(tmp_path, "workflows/b.py", "def broken(:\n")

    found = scan(tmp_path)

    assert found.files_of("mail") == ["workflows/a.py"]
    assert found.files_of("default") == ["workflows/b.py"]


def test_a_mended_file_has_no_error(tmp_path: Path) -> None:
    write(tmp_path, "workflows/a.py", "def broken(:\n")
    broken = scan(tmp_path)

    write(tmp_path, "workflows/a.py", SEND.format(name="a"))

    assert broken.errors()
    assert scan(tmp_path, broken).errors() == []


def test_one_name_in_two_groups_is_a_duplicate_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, "workflows/a.py", SEND.format(name="send"))
    write(tmp_path, "workflows/b.py", MAIL.format(name="send"))

    found = scan(tmp_path)

    assert found.errors() == ["two workflows are named 'send': workflows/a.py:3 and workflows/b.py:3"]


def test_an_alias_is_a_name_too(tmp_path: Path) -> None:
    write(tmp_path, "workflows/a.py", SEND.format(name="send"))
    write(tmp_path, "workflows/b.py", "from tako import workflow\n@workflow(aliases=['send'])\ndef other(ctx): ...\n")

    assert [one.name for one in scan(tmp_path).duplicates] == ["send"]


def test_a_scan_knows_whether_the_files_of_a_group_have_changed_since(tmp_path: Path) -> None:
    write(tmp_path, "workflows/a.py", SEND.format(name="a"))
    write(tmp_path, "workflows/b.py", MAIL.format(name="b"))
    found = scan(tmp_path)
    assert found.is_current(tmp_path)

    write(tmp_path, "workflows/b.py", MAIL.format(name="bb"))

    assert found.is_current(tmp_path, group="default")
    assert not found.is_current(tmp_path, group="mail")
    (tmp_path / "workflows/a.py").unlink()
    assert not found.is_current(tmp_path, group="default")
