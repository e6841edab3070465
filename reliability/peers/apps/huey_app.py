"""Huey: SQLite with `fsync=True` ("durable writes"), three retries, worker processes."""

import os

import bodies
from huey import SqliteHuey, crontab

if os.environ["PEERS_ROLE"] == "worker":
    import breaks  # noqa: F401

huey = SqliteHuey("app", filename=os.environ["PEERS_DATA"] + "/huey.db", fsync=True)


@huey.task(retries=3, retry_delay=1)
def steps(key):
    return [bodies.step(key, number) for number in range(3)]


@huey.task(retries=3, retry_delay=1)
def quick(key):
    return bodies.quick(key)


@huey.task(retries=3, retry_delay=1)
def poison(key):
    return bodies.poison(key)


@huey.task(retries=3, retry_delay=1)
def unstorable(key):
    return bodies.unstorable(key)


@huey.periodic_task(crontab(minute="*"))
def tick():
    return bodies.tick()


if os.environ["PEERS_ROLE"] == "client":

    @huey.task(retries=3, retry_delay=1)
    def nosuch(key):
        return key


def enqueue(kind, key):
    task = globals()[kind].s(key)
    task.id = key
    huey.enqueue(task)


def state(key):
    if any(task.id == key for task in huey.pending()):
        return "pending"
    if any(task.id == key for task in huey.scheduled()):
        return "scheduled"
    found = huey.storage.peek_data(key)
    return "nothing is known" if not isinstance(found, bytes) else str(huey.serializer.deserialize(found))[:200]
