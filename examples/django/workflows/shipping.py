from dataclasses import dataclass

from shop.models import Order

from tako import Context, Signal, workflow


@dataclass
class Payment:
    method: str


paid = Signal("paid", Payment)


@workflow(key="order:{order_id}", signals=[paid])
def ship(ctx: Context, order_id: int) -> str:
    payment = ctx.wait_for(paid, timeout="7d", default=None)
    if payment is None:
        return ctx.step("forget", set_state, order_id, "forgotten")
    return ctx.step("ship", set_state, order_id, f"shipped, paid by {payment.method}")


def set_state(order_id: int, state: str) -> str:
    Order.objects.filter(pk=order_id).update(state=state)
    return state
