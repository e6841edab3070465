from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from workflows.shipping import Payment, paid, ship

from shop.models import Order


@csrf_exempt
@require_POST
@transaction.atomic
def order(request: HttpRequest, item: str) -> JsonResponse:
    made = Order.objects.create(item=item)
    ship.enqueue(order_id=made.pk)  # sent with the commit; if it is refused, there is no order either
    return JsonResponse({"order": made.pk}, status=202)


@csrf_exempt
@require_POST
def pay(request: HttpRequest, order_id: int) -> JsonResponse:
    ship.signal(f"order:{order_id}", paid, Payment(method="card"))
    return JsonResponse({})


def show(request: HttpRequest, order_id: int) -> JsonResponse:
    return JsonResponse({"state": get_object_or_404(Order, pk=order_id).state})
