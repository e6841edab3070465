import os

import subscribers
from flask import Flask

import tako

app = Flask(__name__)
app.config["SENDER"] = os.environ["SENDER"]
app.teardown_appcontext(subscribers.close)
tako.contrib.flask.init(app)


@app.get("/")
def home() -> dict[str, list[str]]:
    return {"subscribers": subscribers.addresses()}


@app.post("/send/<subject>")
def send(subject: str) -> tuple[dict[str, str], int]:
    # By name: the workflow's file imports this one, for its app context.
    run = tako.enqueue("newsletter", {"subject": subject})
    return {"id": run.id}, 202
