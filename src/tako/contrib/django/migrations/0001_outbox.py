"""The outbox."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Create `tako_outbox`."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[object]] = [
        migrations.CreateModel(
            name="OutboxRow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("runs", models.TextField()),
                ("created_ms", models.BigIntegerField()),
                ("tries", models.IntegerField(default=0)),
                ("error", models.TextField(blank=True, default="")),
            ],
            options={
                "verbose_name": "enqueue to be sent",
                "verbose_name_plural": "enqueues to be sent",
                "db_table": "tako_outbox",
                "default_permissions": (),
            },
        ),
    ]
