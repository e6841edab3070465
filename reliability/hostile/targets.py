"""What must be true of any bytes, one function for each thing that reads them. A function raises when it is not.

Each lets through the errors that its reader names, and nothing else; `run` adds that it ends within a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tako.cli import run_ids, values
from tako.cli.arguments import UsageError
from tako.config import dotenv, dump, durations, load
from tako.cron import expression
from tako.discovery import declarations
from tako.errors import ConfigError, DefinitionError, InvalidRequest, PayloadError, TakoError
from tako.host import lines
from tako.ingress import hosts
from tako.logs import files, render
from tako.protocol import envelope, framing, http1, json_text, templates
from tako.sdk import codecs, payload
from tako.supervisor import output, tracebacks
from tako.vault import file as vault
from tako.worker import redaction

Target = Callable[[bytes], None]
SLOW_S = 1.0
NOW_MS = 1_795_000_000_000

# Characters that act on a terminal, or begin a line that nobody wrote.
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def framer(data: bytes) -> None:
    """Any split gives the same messages; after a fatal error nothing more comes; memory stays within the limit."""
    whole, pieces = framing.Framer(max_bytes=200), framing.Framer(max_bytes=200)
    rng = random.Random(len(data))
    expected, found = _lines_of(whole, [data]), _lines_of(pieces, _cut(data, rng))
    assert found == expected, "the split changed the messages"
    assert (whole.error is None) == (pieces.error is None)
    assert pieces.buffered <= 200


def _lines_of(framer: framing.Framer, pieces: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    with contextlib.suppress(InvalidRequest):
        for piece in pieces:
            found += framer.lines(piece)
            if framer.error is not None:
                break
    return found


def _cut(data: bytes, rng: random.Random) -> list[bytes]:
    at, pieces = 0, []
    while at < len(data):
        size = rng.choice((1, 2, 7, 64, 300))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def message(data: bytes) -> None:
    """A line is a message, which goes out and comes back the same, or breaks a rule that is named."""
    try:
        found = framing.decode(data.replace(b"\n", b" "))
    except InvalidRequest as error:
        assert str(error).startswith("invalid request: "), error
        assert len(str(error)) < 300, "the refusal repeats what was sent"
        return
    assert framing.decode(framing.encode(found)[:-1]) == found


def json_texts(data: bytes) -> None:
    """Our JSON reads what Python's reads, and refuses what it refuses."""
    text = data.decode("utf-8", "replace")
    try:
        ours = json_text.decode(text)
    except (ValueError, RecursionError):
        ours = ValueError
    try:
        theirs = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        theirs = ValueError
    assert repr(ours) == repr(theirs), "read differently"


def _refuse(name: str) -> None:
    raise ValueError(name)


def http_request(data: bytes) -> None:
    """A head is refused, or means the same to the app that gets it rewritten."""
    head = data.partition(http1.END)[0]
    try:
        found = http1.Request(head)
    except http1.BadMessage:
        return
    again = http1.Request(found.render(without=http1.HOP_BY_HOP, add=b"X-Forwarded-For: 127.0.0.1\r\n")[:-4])
    assert (again.method, again.target, again.host, again.length) == (
        found.method, found.target, found.host, found.length,
    )  # fmt: skip
    name = hosts.name_in(found.host)
    assert name is None or len(hosts.candidates(name)) < 256


def http_response(data: bytes) -> None:
    """A head of a response is refused or has a length."""
    with contextlib.suppress(http1.BadMessage):
        found = http1.Response(data.partition(http1.END)[0], method=b"GET")
        assert found.length >= http1.UNTIL_CLOSE


def http_chunks(data: bytes) -> None:
    """Chunks end at the same byte however they arrive."""
    rng = random.Random(len(data))
    assert _taken(data, [data]) == _taken(data, _cut(data, rng)), "the split moved the end of the body"


def _taken(data: bytes, pieces: list[bytes]) -> int | None:
    body, taken = http1.Body(http1.CHUNKED), 0
    try:
        for piece in pieces:
            taken += body.take(piece)
            if body.is_done:
                break
    except http1.BadMessage:
        return None
    return taken


def tako_toml(data: bytes) -> None:
    """A config that can be read is the same after it was written; each problem names the file, and mostly the line."""
    root = _folder()
    try:
        config = load.parse(data, root=root)
    except ConfigError as error:
        assert str(error).startswith("tako.toml"), error
        assert not UNSAFE.search(str(error)), "a control character in an error"
        return
    text = dump.dump(config)
    again = load.parse(text.encode(), root=root)
    assert dump.dump(again) == text, "written and read, it is another"


def dot_env(data: bytes) -> None:
    """Variables, or an error with the line, which never shows a value."""
    try:
        found = dotenv.parse(data)
    except ConfigError as error:
        assert str(error).startswith(".env"), error
        assert not UNSAFE.search(str(error)), "a control character in an error"
        return
    for name, value in found.variables.items():
        assert "=" not in name and "\0" not in name + value


def secrets(data: bytes) -> None:
    """Secrets, or an error that names the file; what is in it is not repeated."""
    path = _folder() / "secrets.json"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        found = vault.load(path)
    except TakoError as error:
        assert str(path) in str(error)
        return
    redaction.use(found)
    for value in found.values():
        assert len(value) < 8 or value not in redaction.clean(f"a {value} b") or "[secret" in value
    redaction.use({})


def cron(data: bytes) -> None:
    """Five fields with times in both directions, or a sentence."""
    line, _, zone = data.decode("utf-8", "replace").partition("|")
    try:
        found = expression.Cron(line, tz=zone or "UTC")
    except DefinitionError as error:
        assert "invalid cron" in str(error)
        return
    after = found.after(NOW_MS)
    assert after > NOW_MS >= found.at_or_before(NOW_MS)
    assert found.at_or_before(after) == after, "a boundary that is none"


def duration(data: bytes) -> None:
    """Milliseconds that are written and read alike, or None."""
    text = data.decode("utf-8", "replace")
    ms = durations.parse_ms(text)
    assert ms is None or durations.parse_ms(durations.text(ms / 1000)) == ms


def letter(data: bytes) -> None:
    """What comes on fd 3 is an envelope, or a ValueError."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data[:60_000])
    finally:
        os.close(writer)
    try:
        found = envelope.read(reader)
    except ValueError:
        return
    assert isinstance(found["token"], str)
    assert all(isinstance(value, str) for value in found["secrets"].values())


def printed(data: bytes) -> None:
    """What a process prints is a line that is kept and shown as one, whatever it holds."""
    text = output.clean(data[:65_536].decode(errors="replace").partition("\n")[0])
    line = lines.parse(text, now_ms=NOW_MS, scope="web", pid=1)
    log = _log_files()
    log.write(line)
    assert log.lost == 0, "the line was lost"
    shown = render.render(line)
    assert not UNSAFE.search(shown), "a control character on the screen"
    output.plain(text)
    printed_lines = [output.clean(part.decode(errors="replace")) for part in data[:65_536].split(b"\n")]
    tracebacks.tail(printed_lines, root=_folder())
    tracebacks.hang_frame(printed_lines, root=_folder())


def stored(data: bytes) -> None:
    """Stored JSON is read as what a type wants, or refused with the place."""
    text = data.decode("utf-8", "replace")
    for codec in _codecs():
        with contextlib.suppress(PayloadError):
            payload.decode(codec, text, what="result")


def template(data: bytes) -> None:
    """A template is filled in, or refused."""
    text = data.decode("utf-8", "replace")
    try:
        templates.render_all({"key": text}, {"a": "x", "n": 1, "none": None, "deep": {"a": [1]}})
    except (DefinitionError, PayloadError, ValueError):
        return


def workflow_file(data: bytes) -> None:
    """A file declares workflows, or cannot be read and says where."""
    try:
        declarations.read(data, path="workflows/it.py")
    except declarations.Unreadable as error:
        assert str(error).startswith("workflows/it.py"), error
    declarations.groups_in_text(data)


def argument(data: bytes) -> None:
    """What stands behind `tako enqueue` is a value of the type, or wrong usage."""
    declared, _, text = data.decode("utf-8", "replace").partition("|")
    with contextlib.suppress(UsageError):
        json.dumps(values.value(text, declared, name="it"))
    run_ids.SHORTENED.fullmatch(text)


TARGETS: dict[str, Target] = {
    found.__name__: found
    for found in (
        framer, message, json_texts, http_request, http_response, http_chunks, tako_toml, dot_env, secrets, cron,
        duration, letter, printed, stored, template, workflow_file, argument,
    )
}  # fmt: skip


def run(name: str, data: bytes) -> float:
    """Run a target; the seconds that it took. Raises what is not true of these bytes."""
    began = time.process_time()
    TARGETS[name](data)
    took_s = time.process_time() - began
    assert took_s < SLOW_S, f"{took_s:.1f} s of work for {len(data)} bytes"
    return took_s


@cache
def _folder() -> Path:
    # Held by the cache, so it is removed when the process ends.
    return Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tako-hostile-")


@cache
def _log_files() -> files.LogFiles:
    return files.LogFiles(_folder() / "logs", max_file_bytes=1_000_000, max_total_bytes=4_000_000)


@cache
def _codecs() -> list[codecs.Codec]:
    kinds: tuple[Any, ...] = (
        int,
        float,
        str,
        bool,
        bytes,
        list[int],
        dict[str, int],
        dict[str, list[float]],
        int | None,
    )
    return [payload.codec_for(kind, what="result") for kind in kinds]
