"""DBOS: Postgres, a queue, steps; recovery when the process starts again under the same executor id."""

import os
import threading

import bodies

URL = os.environ["PEERS_POSTGRES"]

if os.environ["PEERS_ROLE"] == "worker":
    import breaks  # noqa: F401
    from dbos import DBOS

    DBOS(config={
        "name": "app", "system_database_url": URL, "application_version": "1", "executor_id": "worker-1",
        "scheduler_polling_interval_sec": 5.0,
    })  # fmt: skip

    @DBOS.step()
    def step(key, number):
        return bodies.step(key, number)

    @DBOS.workflow()
    def steps(key):
        return [step(key, number) for number in range(3)]

    @DBOS.workflow()
    def quick(key):
        return bodies.quick(key)

    @DBOS.workflow()
    def poison(key):
        return bodies.poison(key)

    @DBOS.workflow()
    def unstorable(key):
        return bodies.unstorable(key)

    @DBOS.workflow()
    def tick(when, context):
        bodies.tick()


def serve():
    DBOS.launch()
    DBOS.register_queue("jobs", worker_concurrency=4)
    if os.environ.get("PEERS_SCHEDULE"):
        DBOS.apply_schedules([{
            "schedule_name": "tick", "workflow_fn": tick, "schedule": "* * * * *", "automatic_backfill": True,
            "context": None,
        }])  # fmt: skip
    threading.Event().wait()


client = None


def enqueue(kind, key):
    connected().enqueue({"queue_name": "jobs", "workflow_name": kind, "workflow_id": key, "app_version": "1"}, key)


def state(key):
    status = connected().retrieve_workflow(key).get_status()
    return f"{status.status}" + (f": {status.error}" if getattr(status, "error", None) else "")


def connected():
    from dbos import DBOSClient

    global client
    client = client or DBOSClient(system_database_url=URL)
    return client


if __name__ == "__main__":
    serve()
