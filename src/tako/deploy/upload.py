"""Send the files that a server does not have, by the hash of their content, in pieces.

What has arrived stays, whole files only, so after a cut the next deploy sends the rest.
"""

import base64
import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tako.deploy.artifact import File
from tako.deploy.channel import Channel
from tako.errors import TakoError
from tako.protocol import management

IN_FLIGHT = 10
DEADLINE_S = 120.0
_LEVEL = 1  # of a slow link and a slow laptop, the link is the slower one; of two fast ones nobody notices


def upload(
    channel: Channel, *, job: str, need: Iterable[str], files: Iterable[File], progress: Callable[[int], None]
) -> int:
    """Send every hash of `need`; the bytes sent, after compression.

    `progress` gets the bytes of the files that have arrived so far.

    Raises:
        TakoError: the server refuses (disk full, wrong hash), or a file changed since it was looked at.
    """
    by_hash = {file.sha256: file for file in files}
    sent = arrived = 0
    flying: deque[tuple[int, int]] = deque()
    for sha256 in need:
        for piece, raw_size in _pieces(by_hash[sha256]):
            flying.append((channel.send("blob.put", {"job": job, **piece}), raw_size))
            sent += len(piece["data"]) * 3 // 4  # base64
            if len(flying) >= IN_FLIGHT:
                arrived += _land(channel, flying)
                progress(arrived)
    while flying:
        arrived += _land(channel, flying)
        progress(arrived)
    return sent


def _land(channel: Channel, flying: deque[tuple[int, int]]) -> int:
    number, raw_size = flying.popleft()
    channel.reply_to(number, deadline_s=DEADLINE_S)
    return raw_size


def _pieces(file: File) -> Iterator[tuple[dict[str, Any], int]]:
    """The pieces of a file; at least one. The size of each before compression comes with it."""
    digest = hashlib.sha256()
    offset = 0
    with file.source.open("rb") as source:
        while True:
            raw = source.read(management.MAX_PIECE_BYTES)
            digest.update(raw)
            is_last = offset + len(raw) >= file.size
            # Looked at before it is sent: the server would say the same, but not which file it was.
            if len(raw) < min(management.MAX_PIECE_BYTES, file.size - offset) or (
                is_last and digest.hexdigest() != file.sha256
            ):
                raise TakoError(f"{file.path} changed while it was sent.", cure="Deploy again when nothing writes it.")
            packed = zlib.compress(raw, _LEVEL)
            is_smaller = len(packed) < len(raw)
            data = base64.b64encode(packed if is_smaller else raw).decode()
            yield {"sha256": file.sha256, "offset": offset, "data": data, "zlib": is_smaller}, len(raw)
            offset += len(raw)
            if is_last:
                return
