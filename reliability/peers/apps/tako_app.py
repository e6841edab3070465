"""Tako: as it comes. `nosuch` is a name that a client makes up, as one of another release, or language, would."""

import tako
from tako.protocol import env, ids
from tako.rpc.client import Client
from workflows import flows

runs = {}


def enqueue(kind, key):
    if kind == "nosuch":
        import os

        client = Client(os.environ[env.INTERNAL_SOCKET], os.environ[env.APP_NAME])
        new = {"id": ids.uuid7(), "workflow": "nosuch", "payload_json": "{}"}
        client.call("enqueue_runs", {"runs": [new]}, deadline_s=10)
        return
    runs[key] = getattr(flows, kind).enqueue(key).id


def state(key):
    run = tako.get_run(runs[key])
    return run.status() + (f": {run.error}" if run.error else "")
