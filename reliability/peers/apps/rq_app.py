"""RQ: three retries (docs: "Exceptions & Retries"), a scheduler in the worker, Redis with its append-only file."""

import os

import bodies
from redis import Redis
from rq import Queue, Retry
from rq.job import Job

if os.environ["PEERS_ROLE"] == "worker":
    import breaks  # noqa: F401

redis = Redis.from_url(os.environ["PEERS_REDIS"])
queue = Queue("default", connection=redis)


def steps(key):
    return [bodies.step(key, number) for number in range(3)]


def quick(key):
    return bodies.quick(key)


def poison(key):
    return bodies.poison(key)


def unstorable(key):
    return bodies.unstorable(key)


def tick():
    return bodies.tick()


def enqueue(kind, key):
    queue.enqueue(f"app.{kind}", key, job_id=key, retry=Retry(max=3), result_ttl=3600)


def state(key):
    return Job.fetch(key, connection=redis).get_status()
