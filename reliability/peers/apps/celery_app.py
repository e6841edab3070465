"""Celery: late acknowledgement, and redelivery of what a lost worker had (docs: "Tasks", `acks_late`, and
`reject_on_worker_lost`); on RabbitMQ quorum queues and publisher confirms, on Redis its append-only file."""

import os

import bodies
from celery import Celery
from celery.schedules import crontab

if os.environ["PEERS_ROLE"] == "worker":
    import breaks  # noqa: F401

broker = os.environ["PEERS_BROKER"]
app = Celery("app", broker=broker, backend=os.environ["PEERS_REDIS"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_track_started=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    beat_schedule={"tick": {"task": "app.tick", "schedule": crontab()}},
)
if broker.startswith("amqp"):
    app.conf.update(task_default_queue_type="quorum", broker_transport_options={"confirm_publish": True})


@app.task
def steps(key):
    return [bodies.step(key, number) for number in range(3)]


@app.task
def quick(key):
    return bodies.quick(key)


@app.task
def poison(key):
    return bodies.poison(key)


@app.task
def unstorable(key):
    return bodies.unstorable(key)


@app.task
def tick():
    return bodies.tick()


def enqueue(kind, key):
    app.send_task(f"app.{kind}", [key], task_id=key)


def state(key):
    return app.AsyncResult(key).state
