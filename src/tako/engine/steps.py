"""Step results: saved once, given back ever after."""

from __future__ import annotations

from tako.engine.store import Reader

# What goes with a claim; the rest is fetched in pages, so that a run with a gigabyte of results can still start.
PAGE_BYTES = 256 * 1024


def page(store: Reader, *, run: int, generation: int, after: int = 0) -> tuple[dict[str, str], str | None]:
    """Saved results in the order of saving from `after` on, and where the next page begins (None: there is none).

    A page has at least one step, and ends when it is larger than PAGE_BYTES.
    """
    found: dict[str, str] = {}
    size = 0
    for position in store.all("step_positions", run=run, generation=generation, after=after):
        if size > PAGE_BYTES:
            return found, str(after)
        row = store.one("step", position=position["position"])
        assert row is not None
        found[row["name"]] = row["result"]
        size += len(row["name"]) + len(row["result"])
        after = position["position"]
    return found, None
