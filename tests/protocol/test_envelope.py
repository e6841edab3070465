"""What a spawner writes to fd 3, a process reads."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.protocol import envelope


def opened(data: bytes) -> int:
    fd = os.memfd_create("letter")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_what_is_built_is_what_is_read(token: str, secrets: dict[str, str]) -> None:
    built = envelope.build(token=token, secrets=secrets, worker_id="w1", files=["workflows/a.py"])

    assert envelope.read(opened(built)) == {
        "token": token, "secrets": secrets, "storages": {}, "worker_id": "w1", "files": ["workflows/a.py"],
    }  # fmt: skip


def test_only_workers_are_told_what_to_import() -> None:
    assert envelope.read(opened(envelope.build(token="t", secrets={}))).keys() == {"token", "secrets", "storages"}


def test_it_is_read_to_its_end_and_closed() -> None:
    reading, writing = os.pipe()
    os.write(writing, envelope.build(token="t", secrets={"A": "x" * 50_000}))
    os.close(writing)

    assert len(envelope.read(reading)["secrets"]["A"]) == 50_000
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_nothing_there_is_an_os_error_and_something_else_a_value_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        envelope.read(987)
    with pytest.raises(ValueError, match="it holds no token and secrets"):
        envelope.read(opened(b"hello"))
