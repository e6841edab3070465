"""Tasks of django.tasks as runs."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import tasks
from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.test import TransactionTestCase
from django.utils import timezone

import tako
from tako import Context, workflow
from tako.testing import Engine


class TestTasks(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def _with(self, engine: Engine) -> None:
        self.engine = engine
        tasks.sent.clear()

    def test_a_task_is_a_run_and_its_result_is_read_back(self) -> None:
        result = tasks.add.enqueue(1, b=2)
        assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [1], {"b": 2})

        self.engine.drain()
        result.refresh()

        assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 1)
        assert tako.get_run(result.id).result() == 3
        found = default_task_backend.get_result(result.id)
        assert found.task == tasks.add
        assert found.enqueued_at <= found.started_at <= found.finished_at

    def test_async_tasks_and_async_callers(self) -> None:
        async def story() -> Any:
            result = await tasks.aadd.aenqueue(1, 2)
            await self.engine.adrain()
            await result.arefresh()
            return result.return_value

        assert asyncio.run(story()) == 3

    def test_a_queue_has_its_workflow_and_a_task_its_priority(self) -> None:
        result = tasks.mail.enqueue("ada@example.com")

        run = tako.get_run(result.id)
        assert run.workflow == "mail_task"
        with self.engine.unhealthy("mail"), pytest.raises(tako.WorkerUnhealthy):
            tasks.mail.enqueue("ada@example.com")
        self.engine.drain()
        assert tasks.sent == ["ada@example.com"]

    def test_a_task_that_is_to_run_later_does(self) -> None:
        result = tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1)
        self.engine.drain()
        result.refresh()
        assert result.status == TaskResultStatus.READY

        self.engine.advance("61m")
        self.engine.drain()
        result.refresh()

        assert result.return_value == 1

    def test_a_task_that_fails_is_tried_again_as_its_workflow_says(self) -> None:
        result = tasks.stubborn.enqueue()
        self.engine.drain()
        self.engine.advance("1m")
        self.engine.drain()
        result.refresh()

        assert result.return_value == "at last"
        assert tasks.sent == [(result.id, 1), (result.id, 2)]
        assert [error.exception_class for error in result.errors] == [ValueError]

    def test_a_task_that_fails_for_good_tells_its_errors(self) -> None:
        result = tasks.broken.enqueue()
        self.engine.drain()
        self.engine.advance("1m")
        self.engine.drain()
        result.refresh()

        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 2)
        assert "no such address" in result.errors[0].traceback

    def test_a_task_in_a_transaction_is_sent_with_its_commit(self) -> None:
        with transaction.atomic():
            result = tasks.add.enqueue(1, 2)
            with pytest.raises(TaskResultDoesNotExist):
                default_task_backend.get_result(result.id)

        assert default_task_backend.get_result(result.id).status == TaskResultStatus.READY

    def test_signals_are_sent(self) -> None:
        seen: list[str] = []

        def note(sender: Any, signal: Any, task_result: Any, **more: Any) -> None:
            name = next(name for name, one in signals.items() if one is signal)
            seen.append(f"{sender.__name__} {name} {task_result.status}")

        signals = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
        for signal in signals.values():
            signal.connect(note)
        try:
            tasks.add.enqueue(1)
            self.engine.drain()
        finally:
            for signal in signals.values():
                signal.disconnect(note)

        assert seen == [
            "TakoBackend enqueued READY",
            "TakoBackend started RUNNING",
            "TakoBackend finished SUCCESSFUL",
        ]

    def test_what_is_no_task_of_ours_is_not_found(self) -> None:
        @workflow
        def other(ctx: Context) -> None: ...

        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(other.enqueue().id)
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result("0198c0de-0000-7000-8000-000000000000")

    def test_a_queue_that_the_settings_do_not_name_is_refused(self) -> None:
        with pytest.raises(InvalidTask, match="post"):
            tasks.add.using(queue_name="post")
