"""The dashboard of `tako dev`: a port of its own on loopback, its address in the header and in `engine.json`."""

from __future__ import annotations

from tako.dashboard import keys
from tako.dashboard.server import Dashboard
from tako.host.app import AppHost
from tako.host.window import Window
from tako.ingress import ports

# Beside the port that all `tako dev` of the machine share for names (7777).
FIRST_PORT = 7780


def open_dashboard(host: AppHost, *, port: int | None) -> Dashboard:
    """Listen, on the port that was asked for or the next free one.

    Raises:
        PortTaken: somebody else listens there; says who.
    """
    key = keys.load(host.places.state / "dashboard.key")
    window = Window(host)
    dashboard = Dashboard(lambda: [window], key=key)
    dashboard.start(ports.listen(port) if port is not None else ports.listen_on_free(FIRST_PORT))
    return dashboard
