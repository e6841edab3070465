"""What waiting runs carry, looked at when the code that will read it has changed. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from tako.engine.store import Reader

# So many runs of a workflow are looked at, of each lane. Who has more of them learns of the first ones.
LIMIT = 10_000
WALK = 50_000


def that_do_not_fit(
    reader: Reader, *, names: Iterable[str], problem_of: Callable[[str], str | None]
) -> list[tuple[str, str]]:
    """Waiting runs stored under these names whose payload has a problem, as (id, problem)."""
    found = []
    for name in names:
        for row in reader.all("waiting_payloads", workflow=name, limit=LIMIT, walk=WALK):
            problem = problem_of(row["payload"])
            if problem is not None:
                found.append((row["id"], problem))
    return found


def still_waiting(reader: Reader, ids: Sequence[str]) -> list[str]:
    """Those of these runs that are pending."""
    return [row["id"] for row in reader.all("still_pending", ids=json.dumps(list(ids)))]
