from typing import Any

from tako import Context, workflow
from tako.contrib.django.tasks import perform


@workflow(retries=1)
def django_task(ctx: Context, task: str, args: list[Any], kwargs: dict[str, Any], backend: str = "default") -> Any:
    return perform(ctx, task, args, kwargs, backend)


@workflow(group="mail", retries=0)
def mail_task(ctx: Context, task: str, args: list[Any], kwargs: dict[str, Any], backend: str = "default") -> Any:
    return perform(ctx, task, args, kwargs, backend)
