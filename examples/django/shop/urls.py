from django.urls import path

from shop import views

urlpatterns = [
    path("orders/<str:item>", views.order),
    path("orders/<int:order_id>/pay", views.pay),
    path("orders/<int:order_id>/show", views.show),
]
