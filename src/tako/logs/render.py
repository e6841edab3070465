"""A log line as text for a terminal: `14:02:11 INFO  worker   send_email 0198…4f2a1c started`. Pure but for the zone.

Nothing that is printed may move the cursor, change the window's title, or look like a line that somebody else wrote:
every control character becomes visible, and each further line of a message stands behind a bar.
"""

from __future__ import annotations

import json
import re
import time

from tako.logs.redact import Redact, keep, redacted

TYPE_CHECKING = False  # the command line renders too, and has no time to load `typing`
if TYPE_CHECKING:
    from typing import Any

    from tako.protocol.messages import LogLine

LEVEL_NAMES = {"debug": "DEBUG", "info": "INFO", "warning": "WARN", "error": "ERROR", "critical": "ERROR"}
LEVEL_COLOURS = {"DEBUG": "2", "WARN": "33", "ERROR": "31"}
SCOPE_COLOURS = {"web": "36", "worker": "35", "tako": "34"}
CONTINUATION = "  │ "
MARKS = frozenset({"crash", "dead"})  # fields that tell programs what the message tells people

# Colours that a program gave its own output are dropped without a trace: they would only be noise when made visible.
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# Control characters, C1 included; line separators; marks that reverse the direction of text; halves of surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def clean(text: str) -> str:
    """The text on one line, with every character that acts on a terminal made visible (`\\x1b`, `\\n`)."""
    text = _COLOUR.sub("", text) if "\x1b" in text else text
    return _UNSAFE.sub(_visible, text).replace("\t", "    ")


def clean_lines(text: str) -> list[str]:
    """The text's own lines, each of them clean."""
    return [clean(line.rstrip("\r")) for line in text.rstrip("\n").split("\n")]


def short_id(run_id: str) -> str:
    """A run's id as a person reads it: the beginning, and the end that tells it from its neighbours.

    Commands take it as it is: `tako runs show 0198…4f2a1c`.
    """
    return f"{run_id[:4]}…{run_id[-6:]}" if len(run_id) > 12 else run_id


def clock(ts_ms: int) -> str:
    """The time of day here, in seconds."""
    return time.strftime("%H:%M:%S", time.localtime(ts_ms / 1000))


def render(line: LogLine, *, colour: bool = False, redact: Redact = keep) -> str:
    """The line as text, without a newline at its end; a message of several lines gives several lines."""
    line = redacted(line, redact)
    head, *rest = clean_lines(line["message"])
    text = " ".join(part for part in (_subject(line, head), head, _fields(line)) if part)
    first = f"{beginning(line['ts_ms'], line['level'], line['scope'], colour=colour)} {text}".rstrip()
    return "\n".join([first, *(f"{CONTINUATION}{more}" for more in rest)])


def beginning(ts_ms: int, level: str, scope: str, *, colour: bool) -> str:
    """The columns that every line begins with: time, level, scope."""
    level = LEVEL_NAMES.get(level.lower(), clean(level).upper()[:5])
    scope = clean(scope)
    if not colour:
        return f"{clock(ts_ms)} {level:<5} {scope:<8}"
    level_text = paint(f"{level:<5}", LEVEL_COLOURS.get(level, ""))
    return f"{paint(clock(ts_ms), '2')} {level_text} {paint(f'{scope:<8}', SCOPE_COLOURS.get(scope, ''))}"


def paint(text: str, code: str) -> str:
    """The text in a colour, or as it is when `code` is empty."""
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _subject(line: LogLine, message: str) -> str:
    """Which run the line is about, unless the message says it."""
    workflow, run_id, group = line.get("workflow"), line.get("run_id"), line.get("group")
    if not workflow and not run_id:
        return f"{clean(group)}:" if group and group != "default" else ""
    parts = [clean(workflow or ""), short_id(clean(run_id or "")), clean(line.get("step") or "")]
    if workflow and (message.startswith(f"{workflow} ") or (not run_id and f" {workflow} " in message)):
        return ""
    return " ".join(part for part in parts if part)


def _fields(line: LogLine) -> str:
    """What the message does not say already: an access line names method, path, status and time itself."""
    said = line["message"]
    found = {name: value for name, value in line.get("fields", {}).items() if name not in MARKS}
    return " ".join(f"{clean(str(name))}={_value(value)}" for name, value in found.items() if str(value) not in said)


def _value(value: Any) -> str:
    if not isinstance(value, str):
        return clean(json.dumps(value, ensure_ascii=False, default=str))
    text = clean(value)
    return text if text and not any(char in text for char in ' "=') else json.dumps(text, ensure_ascii=False)


def _visible(found: re.Match[str]) -> str:
    char = found.group()
    if char == "\n":
        return "\\n"
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
