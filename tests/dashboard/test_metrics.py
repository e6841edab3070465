"""`/metrics` as the parser of Prometheus reads it. The real one is in `acceptance/test_prometheus.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.dashboard.bookshop import Bookshop, ask
from tests.support.dev import until

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana/tako.json"

Samples = dict[str, list[tuple[dict[str, str], float]]]


def scraped(bookshop: Bookshop) -> Samples:
    """Every sample by its name, as Prometheus' own parser reads them."""
    answer = ask(f"{bookshop.root}metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            assert not any(labels == sample.labels for labels, _ in found.get(sample.name, [])), sample
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of what has these labels."""
    return sum(n for found, n in samples.get(name, []) if labels.items() <= found.items())


@pytest.fixture(scope="module")
def samples(bookshop: Bookshop) -> Samples:
    """Of an engine in which something of everything has happened."""
    assert bookshop.ended(bookshop.enqueue("sell", order=501)) == "succeeded"
    assert bookshop.ended(bookshop.enqueue("sell", order=-501)) == "dead"
    bookshop.call("cancel", id=bookshop.waits(bookshop.enqueue("approve")))
    with pytest.raises(Exception, match="nowhere"):
        bookshop.enqueue("nowhere")
    return scraped(bookshop)


def test_runs_are_counted_by_status(bookshop: Bookshop, samples: Samples) -> None:
    of_sell = {"app": "bookshop", "env": "development", "workflow": "sell"}
    listed = [run["status"] for run in bookshop.call("list_runs", workflow="sell", limit=1000)["runs"]]

    assert value(samples, "tako_runs", **of_sell, status="succeeded") == listed.count("succeeded")
    assert value(samples, "tako_runs", **of_sell, status="dead") == listed.count("dead")
    since_the_start = value(samples, "tako_runs_enqueued_total", **of_sell)
    assert 2 <= since_the_start <= len(listed)
    assert value(samples, "tako_runs_ended_total", **of_sell) == since_the_start
    assert value(samples, "tako_runs_ended_total", workflow="approve", status="cancelled") >= 1
    assert value(samples, "tako_dead_runs_unseen", **of_sell) >= 1


def test_each_claim_and_each_end_is_in_a_histogram(samples: Samples) -> None:
    for name, label in (("tako_run_wait_seconds", {}), ("tako_run_duration_seconds", {"status": "succeeded"})):
        of_sell = {"workflow": "sell", **label}
        count = value(samples, f"{name}_count", **of_sell)
        assert count >= 1
        assert value(samples, f"{name}_bucket", **of_sell, le="+Inf") == count
        buckets = [n for labels, n in samples[f"{name}_bucket"] if of_sell.items() <= labels.items()]
        assert buckets == sorted(buckets)
        assert 0 <= value(samples, f"{name}_sum", **of_sell) < 600
    assert value(samples, "tako_store_commit_seconds_count") > 5


def test_workers_and_their_group_are_told(samples: Samples) -> None:
    assert value(samples, "tako_worker_starts_total", group="default") >= 1
    assert value(samples, "tako_workers", group="default") >= 1
    assert value(samples, "tako_group_healthy", group="default") == 1
    assert [labels["state"] for labels, n in samples["tako_group_state"] if n] == ["healthy"]


def test_a_refused_enqueue_is_counted_by_its_code(samples: Samples) -> None:
    assert value(samples, "tako_enqueues_refused_total", code="unknown_workflow") == 1


def test_schedules_store_and_process_are_told(samples: Samples) -> None:
    assert value(samples, "tako_schedule_lateness_seconds", workflow="yearly") == 0
    assert value(samples, "tako_schedule_next_timestamp_seconds", workflow="yearly") > 1_700_000_000
    assert value(samples, "tako_store_bytes", part="database") >= 4_096
    assert value(samples, "tako_store_writable") == 1
    assert 10_000_000 < value(samples, "process_resident_memory_bytes") < 500_000_000


def test_prometheus_may_give_the_key_as_its_credentials(bookshop: Bookshop) -> None:
    base, key = bookshop.root.rstrip("/").rsplit("/", 1)

    assert ask(f"{base}/metrics", authorization=f"Bearer {key}").status == 200
    assert ask(f"{base}/metrics", authorization="Bearer no").status == 403
    assert ask(f"{base}/metrics").status == 403


def test_every_label_in_a_legend_is_one_of_its_query() -> None:
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        for target in panel.get("targets", []):
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in target["expr"] or "by" not in target["expr"], panel["title"]


def test_a_rest_costs_nothing_and_a_look_shows_the_queue_as_it_is(bookshop: Bookshop) -> None:
    bookshop.call("pause", workflow="talk")
    run_id = bookshop.enqueue("talk")
    try:
        until(lambda: value(scraped(bookshop), "tako_queue_depth", workflow="talk", lane="ready") == 1, what="it waits")
        assert value(scraped(bookshop), "tako_problems", severity="warning") >= 1
    finally:
        bookshop.call("resume", workflow="talk")
    assert bookshop.ended(run_id) == "succeeded"
