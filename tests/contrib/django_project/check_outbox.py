"""Enqueues inside and outside of transactions that really commit and roll back."""

import threading
from datetime import timedelta
from unittest import mock

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase
from shop.models import Order
from workflows.orders import few, fulfil, once

import tako
from tako.contrib.django.models import OutboxRow
from tako.contrib.django.outbox import Outbox, Sweeper
from tako.sdk import runtime
from tako.testing import Engine


def stored() -> list[str]:
    return [run.id for run in tako.runs()]


class TestTransactions(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def _with(self, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
        self.engine, self.caplog = engine, caplog

    def outbox(self) -> Outbox:
        found = runtime.engine()
        assert isinstance(found, Outbox)
        return found

    def test_outside_of_a_transaction_a_run_is_stored_at_once(self) -> None:
        run = fulfil.enqueue(order_id=1)

        assert stored() == [run.id]
        assert not OutboxRow.objects.exists()

    def test_inside_it_is_stored_with_the_commit_and_its_id_holds_from_the_beginning(self) -> None:
        with transaction.atomic():
            order = Order.objects.create(name="Ada")
            run = fulfil.enqueue(order_id=order.pk)
            assert run.is_new
            assert stored() == []

        assert stored() == [run.id]
        assert not OutboxRow.objects.exists()
        assert run.result() == "shipped"

    def test_a_rollback_takes_the_run_along(self) -> None:
        with pytest.raises(ValueError), transaction.atomic():
            fulfil.enqueue(order_id=1)
            raise ValueError

        assert stored() == []
        assert not OutboxRow.objects.exists()

    def test_a_savepoint_that_is_rolled_back_takes_its_run_along_and_no_other(self) -> None:
        with transaction.atomic():
            kept = fulfil.enqueue(order_id=1)
            with pytest.raises(ValueError), transaction.atomic():
                fulfil.enqueue(order_id=2)
                raise ValueError

        assert stored() == [kept.id]

    def test_workers_that_cannot_start_refuse_inside_so_that_the_transaction_rolls_back(self) -> None:
        with self.engine.unhealthy(), pytest.raises(tako.WorkerUnhealthy), transaction.atomic():
            Order.objects.create(name="Ada")
            fulfil.enqueue(order_id=1)

        assert not Order.objects.exists()
        assert not OutboxRow.objects.exists()

    def test_arguments_names_and_full_queues_are_refused_inside_too(self) -> None:
        few.enqueue()
        with transaction.atomic():
            with pytest.raises(tako.PayloadError, match="order_id"):
                tako.enqueue("fulfil", {"order": 1})
            with pytest.raises(tako.UnknownWorkflow, match="Did you mean fulfil"):
                tako.enqueue("fulfill", {})
            with pytest.raises(tako.QueueFull):
                few.enqueue()

        assert not OutboxRow.objects.exists()

    def test_workers_that_broke_before_the_commit_leave_the_run_blocked(self) -> None:
        with transaction.atomic():
            run = fulfil.enqueue(order_id=1)
            outage = self.engine.unhealthy()

        assert run.status() == "blocked"
        outage.end()
        assert run.status() == "pending"

    def test_immediate_does_not_wait_for_the_commit(self) -> None:
        with pytest.raises(ValueError), transaction.atomic():
            run = fulfil.using(immediate=True).enqueue(order_id=1)
            assert stored() == [run.id]
            raise ValueError

        assert stored() == [run.id]

    def test_confirm_cannot_be_kept_before_the_commit(self) -> None:
        with transaction.atomic(), pytest.raises(tako.EnqueueError, match="sent only after the commit"):
            fulfil.using(confirm=True).enqueue(order_id=1)
        with transaction.atomic():
            fulfil.using(confirm=True, immediate=True).enqueue(order_id=1)

    def test_many_are_one_row_and_one_transaction_of_the_engine(self) -> None:
        with transaction.atomic():
            runs = fulfil.enqueue_many([{"order_id": n} for n in range(5)])
            assert OutboxRow.objects.count() == 1

        assert sorted(stored()) == sorted(run.id for run in runs)

    def test_a_delay_counts_from_the_enqueue(self) -> None:
        with transaction.atomic():
            run = fulfil.using(delay="1h").enqueue(order_id=1)
            due = self.engine.now + timedelta(hours=1)
            self.engine.advance("30m")

        info = runtime.engine().call("get_run", {"id": run.id}, deadline_s=1)
        assert info["run_at_ms"] == round(due.timestamp() * 1000)

    def test_a_key_that_is_taken_answers_with_the_run_that_has_it(self) -> None:
        first = once.enqueue(order_id=1)
        with transaction.atomic():
            again = once.enqueue(order_id=1)
            with pytest.raises(tako.DuplicateRun):
                once.using(on_duplicate="raise").enqueue(order_id=1)

        assert (again.id, again.is_new) == (first.id, False)
        assert stored() == [first.id]

    # --- what comes between the commit and the engine ---

    def test_a_process_that_dies_behind_its_commit_leaves_a_row_that_another_one_sends(self) -> None:
        with mock.patch.object(Outbox, "_committed"), transaction.atomic():
            run = fulfil.enqueue(order_id=1)
        assert (stored(), OutboxRow.objects.count()) == ([], 1)

        assert self.outbox().sweep() == 1

        assert stored() == [run.id]
        assert self.outbox().sweep() == 0

    def test_a_row_that_was_sent_and_not_deleted_is_sent_again_without_harm(self) -> None:
        with transaction.atomic():
            run = fulfil.enqueue(order_id=1)
            row = OutboxRow.objects.get()
        row.save(force_insert=True)

        assert self.outbox().sweep() == 1

        assert stored() == [run.id]

    def test_an_engine_that_is_away_at_the_commit_gets_the_run_later(self) -> None:
        away = tako.StoreUnavailable("the engine is not running")
        with mock.patch.object(self.outbox()._inner, "enqueue", side_effect=away), transaction.atomic():
            run = fulfil.enqueue(order_id=1)
        row = OutboxRow.objects.get()
        assert (row.tries, row.error) == (1, "the engine is not running")
        assert "is committed and not sent yet" in self.caplog.text

        assert self.outbox().sweep() == 1

        assert stored() == [run.id]

    def test_a_run_that_is_refused_behind_its_commit_stays_and_is_told_and_holds_up_no_other(self) -> None:
        with transaction.atomic():
            few.enqueue()
            first = few.using(immediate=True).enqueue()
        assert "is committed and refused" in self.caplog.text
        self.caplog.clear()
        with mock.patch.object(Outbox, "_committed"), transaction.atomic():
            other = fulfil.enqueue(order_id=1)

        assert self.outbox().sweep() == 1
        assert sorted(stored()) == sorted([first.id, other.id])
        assert "max_pending" in OutboxRow.objects.get().error

        first.cancel()
        assert self.outbox().sweep() == 1
        assert len(stored()) == 3

    def test_the_sweeper_sends_from_a_thread_of_its_own_and_outlives_errors(self) -> None:
        with mock.patch.object(Outbox, "_committed"), transaction.atomic():
            run = fulfil.enqueue(order_id=1)
        sweeper = Sweeper()
        with mock.patch.object(Outbox, "sweep", side_effect=tako.StoreUnavailable("away")):
            sweeper.run_once()
            sweeper.run_once()
        assert self.caplog.text.count("could not be looked at: away") == 1

        thread = threading.Thread(target=sweeper.run_once)
        thread.start()
        thread.join(30)

        assert stored() == [run.id]

    def test_without_its_table_the_error_says_what_to_run(self) -> None:
        with connection.schema_editor() as editor:
            editor.delete_model(OutboxRow)
        try:
            with pytest.raises(tako.EnqueueError, match=r"manage\.py migrate tako"), transaction.atomic():
                fulfil.enqueue(order_id=1)
        finally:
            with connection.schema_editor() as editor:
                editor.create_model(OutboxRow)


class TestInsideOfATestCase(TestCase):
    """Django's TestCase wraps each test in a transaction that never commits."""

    @pytest.fixture(autouse=True)
    def _with(self, engine: Engine) -> None:
        self.engine = engine

    def test_the_test_cases_own_transaction_does_not_count(self) -> None:
        run = fulfil.enqueue(order_id=1)

        assert stored() == [run.id]

    def test_what_the_tests_own_transaction_enqueued_is_sent_with_the_next_drain(self) -> None:
        with transaction.atomic():
            order = Order.objects.create(name="Ada")
            run = fulfil.enqueue(order_id=order.pk)
            self.engine.drain()
            assert stored() == []

        assert run.id not in stored()
        self.engine.drain()

        assert run.result() == "shipped"

    def test_what_it_rolled_back_is_not(self) -> None:
        with pytest.raises(ValueError), transaction.atomic():
            fulfil.enqueue(order_id=1)
            raise ValueError
        self.engine.drain()

        assert stored() == []

    def test_callbacks_that_the_test_captures_send_too(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            run = fulfil.enqueue(order_id=1)

        assert stored() == [run.id]
