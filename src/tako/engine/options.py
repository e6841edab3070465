"""What workflows declare that the rules must keep themselves, whoever enqueues and whether or not a worker is alive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tako.protocol import templates
from tako.protocol.messages import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Of one workflow. `names` are all it may be stored under, its own first; None is no limit, or nobody to tell."""

    names: tuple[str, ...]
    max_pending: int | None = None
    on_dead: str | None = None
    concurrency: int | None = None
    rate_count: int | None = None
    rate_per_ms: int = 0
    # For the runs that the rules make themselves, out of a schedule or a death: templates by field, and the defaults.
    templates: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its own name, whatever alias a run is stored under."""
        return self.names[0]

    @property
    def is_limited(self) -> bool:
        """Whether its runs need a permit to be claimed."""
        return self.concurrency is not None or self.rate_count is not None


def keys(options: Options | None, payload_json: str) -> dict[str, str]:
    """The keys of a run with these arguments, as its workflow's templates make them.

    Raises:
        PayloadError: an argument that a template needs is missing, or cannot be part of a key.
    """
    if options is None or not options.templates:
        return {}
    return templates.render_all(options.templates, {**options.defaults, **json.loads(payload_json)})


def declared(registries: Mapping[str, Registry]) -> dict[str, Options]:
    """By every name, of the workflows that declare any of this or have more than one name."""
    found: dict[str, Options] = {}
    for registry in registries.values():
        for info in registry["workflows"]:
            more = info.get("options") or {}
            rate = more.get("rate") or {}
            options = Options(
                names=(info["name"], *info["aliases"]),
                max_pending=info["max_pending"],
                on_dead=info["on_dead"],
                concurrency=more.get("concurrency"),
                rate_count=rate.get("count"),
                rate_per_ms=rate.get("per_ms", 0),
                templates=(texts := templates.of(info)),
                defaults=(more.get("defaults") or {}) if texts else {},
            )
            if len(options.names) > 1 or options != Options(names=options.names):
                found |= dict.fromkeys(options.names, options)
    return found


def dump(options: Mapping[str, Options]) -> str:
    """As text for the store; the same options are always the same text."""
    return json.dumps({name: asdict(found) for name, found in sorted(options.items())})


def parse(text: str | None) -> dict[str, Options]:
    """What `dump` wrote; nothing, for a store that has never been told."""
    stored = json.loads(text) if text else {}
    return {name: Options(**{**fields, "names": tuple(fields["names"])}) for name, fields in stored.items()}
