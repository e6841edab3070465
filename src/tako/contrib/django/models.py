"""The outbox: runs that were enqueued in a transaction of the app's and are to be sent after its commit."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class OutboxRow(models.Model):
    """One enqueue. It is there from the transaction's commit until the engine has acknowledged the runs."""

    id = models.BigAutoField(primary_key=True)
    runs = models.TextField()  # JSON: a list of NewRun, as the engine takes it
    created_ms = models.BigIntegerField()
    tries = models.IntegerField(default=0)
    error = models.TextField(default="", blank=True)

    class Meta:
        """Its table."""

        app_label = "tako"
        db_table = "tako_outbox"
        default_permissions: ClassVar[tuple[str, ...]] = ()
        verbose_name = "enqueue to be sent"
        verbose_name_plural = "enqueues to be sent"

    def __str__(self) -> str:
        return f"enqueue {self.pk}, {self.tries} tries"
