"""The job of RQ, in a module that its worker can import."""

from typing import Any

from common import mark


def steps_0(content: dict[str, Any]) -> None:
    mark(content["number"])
