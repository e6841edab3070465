"""Runs found again: by id, by key, or in a list, newest first."""

from tako.sdk import options, runtime
from tako.sdk import workflow as workflows
from tako.sdk.enqueueing import check_key
from tako.sdk.handles import Run, aask, ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime
    from typing import Any, TypeVar

    from tako.protocol.messages import RunInfo, ShownStatus
    from tako.sdk.handles import Request
    from tako.sdk.options import Duration
    from tako.sdk.workflow import Workflow

    R = TypeVar("R")

_PAGE = 100


def get_run(id: str) -> "Run[Any]":
    """The run with this id.

    Raises:
        RunNotFound: it never existed, or was removed after its retention.
        StoreUnavailable: the engine does not answer within 5 s.
    """
    return run_of(ask(("get_run", {"id": id})))


async def aget_run(id: str) -> "Run[Any]":
    """As `get_run`, awaited."""
    return run_of(await aask(("get_run", {"id": id})))


def runs(
    *,
    workflow: "str | Workflow[Any, Any] | None" = None,
    status: "ShownStatus | None" = None,
    since: "Duration | datetime | None" = None,
    until: "Duration | datetime | None" = None,
    group: str | None = None,
    key: str | None = None,
    limit: int | None = None,
) -> "Iterator[Run[Any]]":
    """Runs, the newest first, fetched page by page as they are looked at. What is None is not asked for.

    `since` and `until` are of when they were enqueued: an aware datetime, or how long ago ("1h"). `limit` None is all.
    """
    pages = _Pages(workflow, status, since, until, group, key, limit)
    while (request := pages.next_request()) is not None:
        yield from pages.read(ask(request))


async def aruns(
    *,
    workflow: "str | Workflow[Any, Any] | None" = None,
    status: "ShownStatus | None" = None,
    since: "Duration | datetime | None" = None,
    until: "Duration | datetime | None" = None,
    group: str | None = None,
    key: str | None = None,
    limit: int | None = None,
) -> "AsyncIterator[Run[Any]]":
    """As `runs`, for `async for`."""
    pages = _Pages(workflow, status, since, until, group, key, limit)
    while (request := pages.next_request()) is not None:
        for run in pages.read(await aask(request)):
            yield run


class _Pages:
    """The pages of a list of runs."""

    def __init__(
        self,
        workflow: "str | Workflow[Any, Any] | None",
        status: "str | None",
        since: "Duration | datetime | None",
        until: "Duration | datetime | None",
        group: str | None,
        key: str | None,
        limit: int | None,
    ) -> None:
        name = workflow if workflow is None or isinstance(workflow, str) else workflow.name
        fields = {
            "workflow": name,
            "status": status,
            "since_ms": _time_ms(since, what="since"),
            "until_ms": _time_ms(until, what="until"),
            "group": group,
            "key": key,
        }
        self._fields: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        self._left = limit
        self._is_done = False

    def next_request(self) -> "Request | None":
        if self._is_done or self._left == 0:
            return None
        return "list_runs", {**self._fields, "limit": _PAGE if self._left is None else min(_PAGE, self._left)}

    def read(self, data: "dict[str, Any]") -> "list[Run[Any]]":
        found = [run_of(info) for info in data["runs"]]
        if self._left is not None:
            self._left -= len(found)
        self._fields["after"] = data.get("next")
        self._is_done = data.get("next") is None or not found
        return found


def _time_ms(value: "Any", *, what: str) -> int | None:
    if value is None:
        return None
    if hasattr(value, "utcoffset"):
        return options.instant_ms(value, what=what)
    return runtime.now_ms() - options.duration_ms(value, what=what)


def find(workflow: "Workflow[Any, R]", key: str) -> "Run[R]":
    """What Workflow.find does."""
    return run_of(ask(_find(workflow, key)), workflow)


async def afind(workflow: "Workflow[Any, R]", key: str) -> "Run[R]":
    """What Workflow.afind does."""
    return run_of(await aask(_find(workflow, key)), workflow)


def _find(workflow: "Workflow[Any, Any]", key: str) -> "Request":
    return "find_run", {"workflow": workflow.name, "key": check_key(key)}


def run_of(info: "RunInfo", workflow: "Workflow[Any, Any] | None" = None) -> "Run[Any]":
    """A handle for what the engine told of a run; typed if this process has imported its workflow."""
    found = workflow or workflows.declared().get(info["workflow"]) or info["workflow"]
    return Run(info["id"], found, info=info)
