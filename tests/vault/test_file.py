"""Development secrets lie in a file that only their owner can read, and are shown in no message."""

import json
import os
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tako.errors import TakoError
from tako.vault import file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".tako" / "secrets.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_without_a_file_there_are_no_secrets(path: Path) -> None:
    assert file.load(path) == {}
    assert file.names(path) == []
    assert not path.parent.exists()


def test_a_secret_is_set_replaced_and_removed(path: Path) -> None:
    assert file.set(path, "STRIPE_KEY", "sk_1")
    assert file.set(path, "API", "ü\n\x00")
    assert not file.set(path, "STRIPE_KEY", "sk_2")
    assert file.load(path) == {"STRIPE_KEY": "sk_2", "API": "ü\n\x00"}
    assert file.names(path) == ["API", "STRIPE_KEY"]

    assert file.remove(path, "API")
    assert not file.remove(path, "API")
    assert file.names(path) == ["STRIPE_KEY"]


def test_the_file_and_its_folder_are_closed_to_others_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        file.set(path, "A", "1")
    finally:
        os.umask(before)

    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", "secrets.json"]


def test_git_does_not_see_the_folder(tmp_path: Path, path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)

    file.set(path, "A", "1")

    shown = subprocess.run(["git", "-C", tmp_path, "status", "--short"], check=True, capture_output=True, text=True)
    assert shown.stdout == ""


@pytest.mark.parametrize("wrong", [0o644, 0o640, 0o602])
def test_a_file_that_others_can_open_is_not_used_and_the_cure_works(path: Path, wrong: int) -> None:
    file.set(path, "A", "top-secret")
    path.chmod(wrong)

    with pytest.raises(TakoError, match=f"(?s)others can .*mode {wrong:04o}.*chmod 600 {path}"):
        file.load(path)

    path.chmod(0o600)
    assert file.load(path) == {"A": "top-secret"}


def test_a_folder_that_others_can_write_is_refused(path: Path) -> None:
    file.set(path, "A", "1")
    path.parent.chmod(0o777)

    with pytest.raises(TakoError, match=f"(?s)Others can replace .*chmod 700 {path.parent}"):
        file.load(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(TakoError, match="no link"):
        file.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"development": {}}', b'{"development": {"secrets": []}}',
        b'{"development": {"secrets": {"A": 1}}}',
        b'{"development": {"secrets": {"../x": "top-secret"}}}', b'"top-secret',
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error_that_shows_no_value(path: Path, content: bytes) -> None:
    file.set(path, "A", "1")
    path.write_bytes(content)

    with pytest.raises(TakoError, match="cannot be used") as raised:
        file.load(path)
    assert "top-secret" not in "".join(traceback.format_exception(raised.value))
    with pytest.raises(TakoError):
        file.set(path, "B", "2")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("1A", "x"),
        ("A-B", "x"),
        ("A\n", "x"),
        ("A" * 129, "x"),
        ("A", ""),
        ("A", "x" * 65_537),
        ("A", "\ud800"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_and_changes_nothing(path: Path, name: str, value: str) -> None:
    with pytest.raises(TakoError):
        file.set(path, name, value)

    assert not path.parent.exists()


def test_secrets_set_at_the_same_time_all_count(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tako.vault import file\n"
        "for n in range(10): file.set(Path(sys.argv[1]), f'{sys.argv[2]}_{n}', 'x')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, path, name]) for name in "ABC"]

    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len(file.load(path)) == 30


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.set(path, "A", "1")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.set(path, "A", "2")
    monkeypatch.undo()

    assert json.loads(path.read_text())["development"]["secrets"] == {"A": "1"}
    assert len(list(path.parent.iterdir())) == 2
