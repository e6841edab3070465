"""Metrics in the text format of Prometheus (version 0.0.4). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tako.metrics.instruments import Counter, Histogram, cumulative

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Family:
    """All series of one name. `kind` is counter, gauge or histogram; each line: suffix of the name, labels, value."""

    name: str
    kind: str
    help: str
    lines: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", /, **labels: str) -> None:
        """One series."""
        self.lines.append((suffix, labels, value))


def of_counter(name: str, help: str, counter: Counter, names: tuple[str, ...], **labels: str) -> Family:
    """A counter's series; `names` are those of its labels."""
    family = Family(name, "counter", help)
    for values, n in sorted(counter.values.items()):
        family.add(n, **labels, **dict(zip(names, values, strict=True)))
    return family


def of_histogram(name: str, help: str, histogram: Histogram, names: tuple[str, ...], **labels: str) -> Family:
    """A histogram's buckets, sums and counts."""
    family = Family(name, "histogram", help)
    for values, tally in sorted(histogram.tallies.items()):
        own = {**labels, **dict(zip(names, values, strict=True))}
        for bound, seen in cumulative(histogram.bounds, tally):
            family.add(seen, "_bucket", **own, le=_number(bound))
        family.add(tally.total, "_sum", **own)
        family.add(tally.count, "_count", **own)
    return family


def text(families: Iterable[Family]) -> str:
    """The whole page. Families of one name (of several apps) are put together, as the format demands."""
    merged: dict[str, Family] = {}
    for family in families:
        if (known := merged.get(family.name)) is None:
            merged[family.name] = Family(family.name, family.kind, family.help, list(family.lines))
        else:
            known.lines += family.lines
    return "".join(_of(family) for family in merged.values() if family.lines)


def _of(family: Family) -> str:
    head = f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.kind}\n"
    return head + "".join(
        f"{family.name}{suffix}{_labels(labels)} {_number(value)}\n" for suffix, labels, value in family.lines
    )


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(value: str) -> str:
    # Names come from users' code: a lone surrogate has no UTF-8.
    return _escaped(value).replace('"', '\\"').encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
