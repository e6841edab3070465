"""What a person is told: an alert, and the notice that stands for all alerts of one cause. Pure.

Neither holds a payload, a result or a secret: what user code said in an exception stays in the store, and a notice
names the command that shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person must act on. Alerts of one `kind` and `cause` are told together.

    `what` is one sentence, `detail` further lines of it, `cure` what to do.
    """

    kind: str  # dead_run, unhealthy_group, failing_group, late_schedule, store_unavailable, test
    cause: str
    what: str
    detail: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message: the newest alert of a cause, and how often the cause has struck since `first_ms`."""

    alert: Alert
    count: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who tells: the app, its environment, and the machine that it runs on."""

    app: str
    environment: str
    machine: str


def subject(notice: Notice, sender: Sender) -> str:
    """One line: `shop (production on fra1): 500 × send_email is dead: TimeoutError`."""
    times = f"{notice.count} × " if notice.count > 1 else ""
    return f"{sender.app} ({sender.environment} on {sender.machine}): {times}{notice.alert.what}"


def text(notice: Notice, sender: Sender) -> str:
    """The whole message, as lines for people."""
    lines = [subject(notice, sender), *(f"  {line}" for line in notice.alert.detail.splitlines())]
    if notice.count > 1:
        lines.append(f"  {notice.count} times since {_time(notice.first_ms)}, last at {_time(notice.last_ms)}.")
    else:
        lines.append(f"  At {_time(notice.last_ms)}.")
    if notice.alert.cure:
        lines.append(f"  {notice.alert.cure}")
    return "\n".join(lines)


def document(notice: Notice, sender: Sender) -> dict[str, object]:
    """The message for programs. Slack and Mattermost read `text`, Discord `content`."""
    shown = text(notice, sender)
    return {
        "text": shown,
        "content": shown[:2000],  # Discord refuses more
        "app": sender.app,
        "environment": sender.environment,
        "machine": sender.machine,
        "kind": notice.alert.kind,
        "what": notice.alert.what,
        "detail": notice.alert.detail,
        "cure": notice.alert.cure,
        "count": notice.count,
        "first_ms": notice.first_ms,
        "last_ms": notice.last_ms,
    }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
