from django.tasks import TaskContext, task

sent: list[object] = []


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
async def aadd(a: int, b: int) -> int:
    return a + b


@task(queue_name="mail", priority=5)
def mail(address: str) -> None:
    sent.append(address)


@task(takes_context=True)
def stubborn(context: TaskContext) -> str:
    sent.append((context.task_result.id, context.attempt))
    if context.attempt < 2:
        raise ValueError("not yet")
    return "at last"


@task
def broken() -> None:
    raise ValueError("no such address")
