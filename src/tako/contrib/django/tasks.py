"""A backend for `django.tasks`, which Django has from version 6 on.

    TASKS = {"default": {"BACKEND": "tako.contrib.django.tasks.TakoBackend"}}

A task is a run of the workflow `django_task`, which the project declares in a file of its own, and whose options
(retries, timeout, group) are those of its tasks:

    # workflows/django_task.py
    from tako import Context, workflow
    from tako.contrib.django.tasks import perform

    @workflow(retries=2)
    def django_task(ctx: Context, task: str, args: list, kwargs: dict, backend: str = "default"):
        return perform(ctx, task, args, kwargs, backend)

`OPTIONS = {"workflow": "...", "workflows": {"<queue>": "..."}}` names other workflows. `enqueue` inside `atomic()` goes
through the outbox, as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TaskError
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

import tako
from tako.sdk import codecs, handles, payload

if TYPE_CHECKING:
    from tako.protocol.messages import AttemptInfo, RunInfo

WORKFLOW = "django_task"

_STATUS = {
    "succeeded": TaskResultStatus.SUCCESSFUL,
    "dead": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
    "running": TaskResultStatus.RUNNING,
}


class TakoBackend(BaseTaskBackend):
    """Tasks as runs."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> TaskResult:
        """Enqueue a run of the task's queue's workflow.

        Raises:
            EnqueueError: nothing was stored (except EnqueueUnknown); the subclass says why.
        """
        self.validate_task(task)
        result = _result(task, args=list(args), kwargs=dict(kwargs), backend=self.alias)
        told = {"task": task.module_path, "args": result.args, "kwargs": result.kwargs, "backend": self.alias}
        run = tako.enqueue(self.workflow_of(task.queue_name), told, **_using(task))
        object.__setattr__(result, "id", run.id)
        object.__setattr__(result, "enqueued_at", timezone.now())
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """What is known of a task. Raises TaskResultDoesNotExist."""
        wanted = {"id": result_id, "with": ["payload", "result", "attempts"]}
        try:
            info: RunInfo = handles.ask(("get_run", wanted))
        except tako.RunNotFound:
            raise TaskResultDoesNotExist(result_id) from None
        if info["workflow"] not in self._workflows:
            raise TaskResultDoesNotExist(result_id)
        return _of_run(info)

    def workflow_of(self, queue: str) -> str:
        """The workflow that performs the tasks of a queue."""
        by_queue: Mapping[str, str] = self.options.get("workflows", {})
        return by_queue.get(queue) or str(self.options.get("workflow", WORKFLOW))

    @property
    def _workflows(self) -> set[str]:
        return {self.options.get("workflow", WORKFLOW), *self.options.get("workflows", {}).values()}


def perform(ctx: tako.Context, task: str, args: list[Any], kwargs: dict[str, Any], backend: str = "default") -> Any:
    """Call a task, in the handler of the workflow that stands for it; what it returned, as JSON."""
    found = import_string(task)
    result = _result(found, args=args, kwargs=kwargs, backend=backend)
    now = timezone.now()
    for name, value in (("id", ctx.run_id), ("status", TaskResultStatus.RUNNING), ("started_at", now)):
        object.__setattr__(result, name, value)
    object.__setattr__(result, "last_attempted_at", now)
    result.worker_ids.extend([ctx.workflow] * ctx.attempt)  # of them TaskContext counts its attempts
    sender = type(task_backends[backend])
    task_started.send(sender, task_result=result)
    try:
        first = (TaskContext(task_result=result),) if found.takes_context else ()
        value = normalize_json(found.call(*first, *args, **kwargs))
    except Exception:
        object.__setattr__(result, "status", TaskResultStatus.FAILED)
        object.__setattr__(result, "finished_at", timezone.now())
        task_finished.send(sender, task_result=result)
        raise
    object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL)
    object.__setattr__(result, "finished_at", timezone.now())
    object.__setattr__(result, "_return_value", value)
    task_finished.send(sender, task_result=result)
    return value


def _using(task: Any) -> dict[str, Any]:
    using: dict[str, Any] = {}
    if task.priority:
        using["priority"] = int(task.priority)
    if task.run_after is not None:
        using["at"] = task.run_after if timezone.is_aware(task.run_after) else timezone.make_aware(task.run_after)
    return using


def _result(task: Any, *, args: list[Any], kwargs: dict[str, Any], backend: str) -> TaskResult:
    return TaskResult(
        task=task,
        id="",
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def _of_run(info: RunInfo) -> TaskResult:
    told = payload.decode(codecs.ANY, info["payload_json"], what="payload")
    result = _result(import_string(told["task"]), args=told["args"], kwargs=told["kwargs"], backend=told["backend"])
    attempts = info["attempts"]
    last = attempts[-1]["started_ms"] if attempts else info["started_ms"]
    fields: dict[str, Any] = {
        "id": info["id"],
        "status": _STATUS.get(info["status"], TaskResultStatus.READY),
        "enqueued_at": _moment(info["created_ms"]),
        "started_at": _moment(info["started_ms"]),
        "finished_at": _moment(info["ended_ms"]),
        "last_attempted_at": _moment(last),
        "errors": [_error(attempt) for attempt in attempts if attempt["error"]],
        "worker_ids": [attempt["worker_id"] or "" for attempt in attempts],
    }
    if info["status"] == "succeeded":
        text = info.get("result_json") or "null"
        fields["_return_value"] = payload.decode(codecs.ANY, text, what="result")
    for name, value in fields.items():
        object.__setattr__(result, name, value)
    return result


def _error(attempt: AttemptInfo) -> TaskError:
    kind = (attempt["error"] or "").partition(":")[0]
    path = kind if "." in kind else f"builtins.{kind}"
    return TaskError(exception_class_path=path, traceback=attempt["traceback"] or attempt["error"] or "")


def _moment(ms: int | None) -> datetime | None:
    found = handles.moment(ms)
    if found is None or settings.USE_TZ:
        return found
    naive: datetime = timezone.make_naive(found)
    return naive
