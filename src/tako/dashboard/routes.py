"""Which page answers what. The path behind key and app, `*` for what a page is told of."""

from __future__ import annotations

from tako.dashboard import actions, listening, pages, run_page, runs_page
from tako.dashboard.site import Page

ROUTES: dict[tuple[str, ...], Page] = {
    ("GET", ""): pages.overview,
    ("GET", "runs"): runs_page.runs,
    ("GET", "runs", "bulk"): runs_page.confirm,
    ("POST", "runs", "bulk"): actions.bulk,
    ("GET", "runs", "*"): run_page.run,
    ("GET", "runs", "*", "text"): run_page.text,
    ("POST", "runs", "*", "retry"): actions.retry,
    ("POST", "runs", "*", "cancel"): actions.cancel,
    ("POST", "runs", "*", "signal"): actions.signal,
    ("POST", "runs", "*", "ack"): actions.ack,
    ("GET", "schedules"): pages.schedules,
    ("POST", "schedules"): actions.schedule,
    ("GET", "workflows"): pages.workflows,
    ("POST", "workflows"): actions.pause,
    ("GET", "logs"): pages.logs,
    ("GET", "live"): listening.live,
}
