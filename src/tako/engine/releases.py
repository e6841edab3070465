"""Which release's workers may claim: one row, moved in one transaction, so that at any instant it is exactly one.

Runs and queue belong to the app, not to a release. What an old release's worker has claimed it finishes, fenced by the
epoch; what it has not, it gets no more. A store that never saw a deploy (development) has no active release, and
everyone may claim.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tako.engine import registry
from tako.engine.intake import UNFINISHED
from tako.engine.store import Reader, Store
from tako.protocol.messages import Registry


def active(store: Reader) -> str | None:
    """The release that may claim; None before the first deploy."""
    return store.get_meta("active_release")


def activate(store: Store, *, release: str, registries: dict[str, Registry]) -> int:
    """Let this release's workers claim, and nobody else's; limits are those that it declares. Returns how often this
    has been done here: the generation. Undone by activating the other one again."""
    generation = int(store.get_meta("release_generation") or "0") + 1
    store.set_meta("release_generation", str(generation))
    store.activate(release)
    registry.obey(store, registries)
    return generation


def unfinished(store: Store) -> dict[str, int]:
    """How many unfinished runs there are, by the name they are stored under."""
    found: dict[str, int] = {}
    for (workflow, state), n in list(store.counts.items()):
        if n and state in UNFINISHED:
            found[workflow] = found.get(workflow, 0) + n
    return found


def orphaned(store: Store, *, declared: Collection[str]) -> dict[str, int]:
    """Of the unfinished runs, those that a release with these names (aliases included) has no code for."""
    return {workflow: n for workflow, n in sorted(unfinished(store).items()) if workflow not in declared}


def ids_of(store: Reader, *, workflows: Iterable[str], limit: int) -> dict[str, list[str]]:
    """The unfinished runs of these workflows, oldest first, at most `limit` of each."""
    return {
        name: [str(row["id"]) for row in store.all("unfinished_of", workflow=name, limit=limit)] for name in workflows
    }
