from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from workflows.orders import fulfil

from shop.models import Order


def order(request: HttpRequest, name: str) -> JsonResponse:
    # ATOMIC_REQUESTS: the order and its run are committed together, or not at all.
    made = Order.objects.create(name=name)
    run = fulfil.enqueue(order_id=made.pk)
    return JsonResponse({"order": made.pk, "run": run.id})


def broken(request: HttpRequest) -> JsonResponse:
    raise ZeroDivisionError


async def aorder(request: HttpRequest, name: str) -> JsonResponse:
    made = await Order.objects.acreate(name=name)
    run = await fulfil.aenqueue(order_id=made.pk)
    return JsonResponse({"order": made.pk, "run": run.id})


urlpatterns = [
    path("order/<name>", order),
    path("aorder/<name>", transaction.non_atomic_requests(aorder)),
    path("broken", broken),
]
