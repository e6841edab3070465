"""Requests as lines: one each, or one for many of the kinds that a worker says most.

Saved steps and ended runs that leave together go into one line, `save_steps` or `finish_runs`, which costs both sides a
third of what a line for each costs. A request that is alone is a line of its own.
"""

from __future__ import annotations

from tako.protocol import framing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

    Message = dict[str, Any]
    Body: TypeAlias = "Message | Common"

# A kind to its command for many, and the field that lists them there.
_MANY = {"save_step": ("save_steps", "steps"), "finish": ("finish_runs", "runs")}
# Lines get no longer than this by being put together; by far not what the engine reads at most.
_MAX_TOGETHER_CHARS = 65_536
_MAX_BYTES_A_CHAR = 6  # `\\udXXX`, half of a surrogate pair


class TooLarge(Exception):
    """A frame is longer than the engine reads. `size` is how long it is, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class Common:
    """A request of a kind that is often said: `fields` is their text, without braces and without the command."""

    __slots__ = ("fields", "kind")

    def __init__(self, kind: str, fields: str) -> None:
        self.kind = kind
        self.fields = fields


def frame_of(number: int, body: Body) -> bytes:
    """The line of a request. Raises TooLarge when the engine would not read it."""
    if isinstance(body, Common):
        frame = _encode(f'{{"request":{number},"command":"{body.kind}",{body.fields}}}\n')
    else:
        frame = framing.encode({"request": number, **body})
    if len(frame) > framing.MAX_FRAME_BYTES:
        raise TooLarge(len(frame))
    return frame


def packed(number: int, body: Body) -> bytes | Common:
    """What `lines` makes lines of. Raises TooLarge."""
    if isinstance(body, Common) and len(body.fields) < framing.MAX_FRAME_BYTES // _MAX_BYTES_A_CHAR - 100:
        return body
    return frame_of(number, body)


def lines(requests: Iterable[tuple[int, bytes | Common]]) -> bytes:
    """The lines of requests that leave together. What is put together goes first, and is of different runs or steps."""
    found: list[bytes] = []
    together: dict[str, list[tuple[int, Common]]] = {}
    for number, one in requests:
        if isinstance(one, Common):
            together.setdefault(one.kind, []).append((number, one))
        else:
            found.append(one)
    return b"".join([*(line for kind, some in together.items() for line in _batches(kind, some)), *found])


def _batches(kind: str, some: list[tuple[int, Common]]) -> Iterable[bytes]:
    batch: list[tuple[int, Common]] = []
    size = 0
    for number, one in some:
        if batch and size + len(one.fields) > _MAX_TOGETHER_CHARS:
            yield _together(kind, batch)
            batch, size = [], 0
        batch.append((number, one))
        size += len(one.fields)
    yield _together(kind, batch)


def _together(kind: str, batch: list[tuple[int, Common]]) -> bytes:
    if len(batch) == 1:
        return frame_of(*batch[0])
    command, name = _MANY[kind]
    numbers = ",".join([str(number) for number, _ in batch])
    fields = "},{".join([one.fields for _, one in batch])
    return _encode(f'{{"requests":[{numbers}],"command":"{command}","{name}":[{{{fields}}}]}}\n')


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
