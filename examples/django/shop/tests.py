from django.test import TestCase

import tako
from shop.models import Order
from tako.testing import Engine


class ShippingTest(TestCase):
    def setUp(self) -> None:
        self.engine = self.enterContext(Engine("."))

    def test_an_order_is_shipped_when_it_is_paid(self) -> None:
        order = self.client.post("/orders/lamp").json()["order"]
        self.engine.drain()
        self.assertEqual(self.client.get(f"/orders/{order}/show").json(), {"state": "new"})

        self.engine.advance("6d")
        self.client.post(f"/orders/{order}/pay")
        self.engine.drain()

        self.assertEqual(self.client.get(f"/orders/{order}/show").json(), {"state": "shipped, paid by card"})

    def test_an_order_that_nobody_pays_is_forgotten(self) -> None:
        order = self.client.post("/orders/lamp").json()["order"]
        self.engine.drain()
        self.engine.advance("7d")
        self.engine.drain()

        self.assertEqual(Order.objects.get(pk=order).state, "forgotten")

    def test_while_workers_cannot_start_there_is_no_order(self) -> None:
        with self.engine.unhealthy():
            refused = self.client.post("/orders/lamp")

        self.assertEqual((refused.status_code, refused["Retry-After"]), (503, "1"))
        self.assertEqual(Order.objects.count(), 0)
        self.assertEqual(list(tako.runs()), [])
