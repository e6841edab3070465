"""Dramatiq: RabbitMQ with publisher confirms (`confirm_delivery=True`), three retries, results kept in Redis."""

import os

import bodies
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

if os.environ["PEERS_ROLE"] == "worker":
    import breaks  # noqa: F401

broker = RabbitmqBroker(url=os.environ["PEERS_BROKER"], confirm_delivery=True)
results = RedisBackend(url=os.environ["PEERS_REDIS"])
broker.add_middleware(Results(backend=results))
dramatiq.set_broker(broker)
options = {"max_retries": 3, "min_backoff": 1_000, "store_results": True}
sent = {}


@dramatiq.actor(**options)
def steps(key):
    return [bodies.step(key, number) for number in range(3)]


@dramatiq.actor(**options)
def quick(key):
    return bodies.quick(key)


@dramatiq.actor(**options)
def poison(key):
    return bodies.poison(key)


@dramatiq.actor(**options)
def unstorable(key):
    return bodies.unstorable(key)


if os.environ["PEERS_ROLE"] == "client":

    @dramatiq.actor(**options)
    def nosuch(key):
        return key


def enqueue(kind, key):
    sent[key] = globals()[kind].send(key)


def state(key):
    from dramatiq.results import ResultFailure, ResultMissing

    try:
        return f"result {results.get_result(sent[key])!r}"
    except ResultFailure as failure:
        return f"failed: {failure}"
    except ResultMissing:
        return "no result"
