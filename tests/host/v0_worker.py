"""A worker of protocol v0, as an SDK of another language would be: one line a connection, one run after the other.

Knows the workflows `greet` (a step, then done), `fails`, `gives_up`, `defers` and `waits`. Stdlib only.
"""

import json
import os
import socket
import sys
import threading
from typing import Any

PATH, APP = os.environ["TAKO_INTERNAL_SOCKET"], os.environ["TAKO_APP_NAME"]
NAMES = ["greet", "fails", "gives_up", "defers", "waits"]
ME = f"v0-{os.getpid()}"


def call(command: str, **fields: Any) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(PATH)
        connection.sendall(json.dumps({"command": command, "app": APP, **fields}).encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    answer: dict[str, Any] = json.loads(reply)
    return answer


def work(run: dict[str, Any]) -> None:
    mine = {"id": run["id"], "worker_id": ME}
    if run["name"] == "greet":
        if "text" not in run["step_state"]:
            call("save_step", **mine, step_name="text", result=f"Hello {run['payload']['name']}")
        call("heartbeat_run", **mine, lease_ms=30_000)
        call("complete_run", **mine)
    elif run["name"] == "fails":
        call("fail_run", **mine, error="no luck", finalize=run["attempts"] >= 2, next_run_at_ms=0)
    elif run["name"] == "gives_up":
        call("cancel_run", **mine, reason="not needed")
    elif run["name"] == "defers":
        call("complete_run", **mine) if run["payload"] else call("defer_run", **mine)
    elif run["name"] == "waits":
        if "approval" in run["step_state"]:
            call("complete_run", **mine)
        else:
            call("wait_for_event", **mine, step_name="approval", event_name="approved")


os.read(3, 65536)
print("v0 worker is up", flush=True)
pause = threading.Event()
while True:
    reply = call("claim_run", worker_id=ME, names=NAMES, lease_ms=30_000)
    if reply.get("data"):
        work(reply["data"])
    elif reply["status"] == "error":
        sys.exit(0)
    else:
        pause.wait(0.05)  # v0 has no claim that waits
