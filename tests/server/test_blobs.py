"""Files of releases by their hash: each there as a whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path

import pytest

from tako.errors import DeployRefused, InvalidRequest
from tako.protocol.management import MAX_PIECE_BYTES
from tako.server.blobs import Blobs

CONTENT = b"hello " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def put(blobs: Blobs, content: bytes, *, offset: int = 0, size: int | None = None, digest: str = DIGEST) -> object:
    data = base64.b64encode(zlib.compress(content)).decode()
    return blobs.put("d1", digest, offset=offset, data=data, is_zlib=True, size=len(CONTENT) if size is None else size)


def test_a_file_that_came_in_pieces_is_there_when_the_last_has_come(blobs: Blobs) -> None:
    assert put(blobs, CONTENT[:4000]) == (4000, False)
    assert not blobs.has(DIGEST)

    assert put(blobs, CONTENT[4000:], offset=4000) == (6000, True)

    assert blobs.path(DIGEST).read_bytes() == CONTENT
    assert blobs.path(DIGEST).stat().st_mode & 0o777 == 0o444
    assert blobs.missing([DIGEST, "0" * 64, DIGEST]) == ["0" * 64]


def test_an_empty_file_is_one_empty_piece(blobs: Blobs) -> None:
    digest = hashlib.sha256(b"").hexdigest()

    assert put(blobs, b"", size=0, digest=digest) == (0, True)

    assert blobs.path(digest).read_bytes() == b""


def test_a_file_with_another_hash_than_promised_is_not_kept(blobs: Blobs) -> None:
    with pytest.raises(DeployRefused, match="another hash than its manifest says"):
        put(blobs, CONTENT[:-1] + b"!")

    assert not blobs.has(DIGEST)
    assert blobs.sweep() == 0


def test_a_file_that_is_longer_than_promised_is_not_kept(blobs: Blobs) -> None:
    with pytest.raises(DeployRefused, match="longer than its manifest says"):
        put(blobs, CONTENT, size=100)


def test_a_piece_out_of_order_is_refused_and_offset_zero_begins_anew(blobs: Blobs) -> None:
    put(blobs, CONTENT[:1000])
    with pytest.raises(InvalidRequest, match="begins at 1000"):
        put(blobs, CONTENT[2000:], offset=2000)

    assert put(blobs, CONTENT) == (6000, True)


@pytest.mark.parametrize("data", ["!!!", base64.b64encode(b"no zlib").decode()])
def test_a_piece_that_cannot_be_read_is_refused(blobs: Blobs, data: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        blobs.put("d1", DIGEST, offset=0, data=data, is_zlib=True, size=6000)


def test_a_small_piece_that_unpacks_to_more_than_a_piece_may_have_is_refused(blobs: Blobs) -> None:
    with pytest.raises(InvalidRequest, match="more than"):
        put(blobs, b"\0" * (MAX_PIECE_BYTES * 50), size=MAX_PIECE_BYTES * 50)


def test_what_was_left_half_way_is_swept_and_what_nobody_needs_is_pruned(blobs: Blobs, tmp_path: Path) -> None:
    put(blobs, CONTENT)
    put(blobs, b"xy", size=4, digest="ab" * 32)

    assert Blobs(tmp_path).sweep() == 1
    assert blobs.prune({DIGEST}) == 0
    assert blobs.prune(set()) == 6000
    assert not blobs.has(DIGEST)


def test_an_upload_for_which_there_is_no_room_is_refused_with_figures(blobs: Blobs) -> None:
    with pytest.raises(DeployRefused, match=r"has \d+ MiB free, and this deploy needs \d+ MiB"):
        blobs.require_room(1 << 60)
