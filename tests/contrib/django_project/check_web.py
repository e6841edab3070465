"""Requests and workers of a Django app."""

import asyncio

import pytest
from django.conf import settings
from django.db import connection
from django.test import AsyncClient, Client, TestCase, TransactionTestCase
from shop.models import Order
from workflows.orders import afulfil, connections, fulfil

import tako
from tako.testing import Engine


class TestRequests(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def _with(self, engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, self.caplog, self.monkeypatch = engine, caplog, monkeypatch

    def test_an_order_and_its_run_are_committed_together(self) -> None:
        answer = self.client.get("/order/Ada").json()

        assert tako.get_run(answer["run"]).result() == "shipped"
        assert Order.objects.get(pk=answer["order"]).state == "shipped"

    def test_a_refused_enqueue_is_answered_with_503_and_rolls_the_request_back(self) -> None:
        with self.engine.unhealthy():
            refused = self.client.get("/order/Ada")

        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.content == b"This cannot be done right now. Try again in 1 s.\n"
        assert "worker unhealthy: worker exited with status 1" in self.caplog.text
        assert not Order.objects.exists()

    def test_async_views_are_answered_alike(self) -> None:
        async def story() -> None:
            client = AsyncClient()
            with self.engine.unhealthy():
                assert (await client.get("/aorder/Ada")).status_code == 503
            answer = (await client.get("/aorder/Ada")).json()
            assert (await tako.aget_run(answer["run"])).id == answer["run"]

        asyncio.run(story())

    def test_other_errors_are_left_alone(self) -> None:
        assert Client(raise_request_exception=False).get("/broken").status_code == 500

    def test_the_middleware_is_there_without_being_named_and_once(self) -> None:
        assert settings.MIDDLEWARE == [
            "tako.contrib.django.middleware.Unhealthy",
            "django.middleware.common.CommonMiddleware",
        ]


class TestInDevelopment(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def _with(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        monkeypatch.setattr("tako.testing.engine.ENVIRONMENT", "development")
        self.engine = request.getfixturevalue("engine")

    def test_the_reason_is_in_the_body(self) -> None:
        with self.engine.unhealthy():
            refused = self.client.get("/order/Ada")

        assert refused.content.startswith(b"worker unhealthy: worker exited with status 1 after 84ms")


class TestConnections(TransactionTestCase):
    @pytest.fixture(autouse=True)
    def _with(self, engine: Engine) -> None:
        self.engine = engine

    def test_a_connection_is_given_back_when_a_step_and_a_handler_end(self) -> None:
        run = connections.enqueue()

        assert run.result() == [True, True, False]
        assert connection.connection is None

    def test_an_async_handler_queries_through_djangos_async_interface(self) -> None:
        order = Order.objects.create(name="Ada")

        assert afulfil.enqueue(order_id=order.pk).result() == "Ada shipped"


class TestConnectionsInATestCase(TestCase):
    @pytest.fixture(autouse=True)
    def _with(self, engine: Engine) -> None:
        self.engine = engine

    def test_a_connection_inside_of_a_transaction_is_left_alone(self) -> None:
        order = Order.objects.create(name="Ada")

        assert connections.enqueue().result() == [True, True, True]
        assert fulfil.enqueue(order_id=order.pk).result() == "shipped"

    def test_an_async_handler_sees_what_the_test_has_not_committed(self) -> None:
        order = Order.objects.create(name="Ada")

        assert afulfil.enqueue(order_id=order.pk).result() == "Ada shipped"
        assert Order.objects.get(pk=order.pk).state == "shipped"

    async def test_an_async_test_sees_what_handlers_of_both_kinds_did(self) -> None:
        order = await Order.objects.acreate(name="Ada")
        first = await fulfil.aenqueue(order_id=order.pk)
        second = await afulfil.aenqueue(order_id=order.pk)

        await self.engine.adrain()

        assert await first.aresult() == "shipped"
        assert await second.aresult() == "Ada shipped"
        assert (await Order.objects.aget(pk=order.pk)).state == "shipped"
