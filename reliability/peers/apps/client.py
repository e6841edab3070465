"""The web app's side: reads requests as lines of JSON, asks the stack (`app.py` beside it), answers with lines."""

import json
import sys
import time

import app


def answer(request: dict) -> dict:
    """What came of it; an exception is an answer, too."""
    began = time.monotonic()
    try:
        if request["do"] == "enqueue":
            app.enqueue(request["kind"], request["key"])
            found = {"ok": True}
        else:
            found = {"ok": True, "state": str(app.state(request["key"]))}
    except Exception as error:
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return {**found, "s": time.monotonic() - began}


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
