"""`tako servers status`: what a server is and has, and how it does."""

from __future__ import annotations

from typing import Any

from tako.cli import moments
from tako.cli.context import Context
from tako.cli.deployed import connection, registry
from tako.cli.errors import DONE, REFUSED
from tako.cli.output import DIM, Output
from tako.deploy import remote
from tako.deploy.channel import Channel
from tako.deploy.servers import Server
from tako.errors import TakoError
from tako.logs.render import clean

LOW_DISK = 0.1


def status(context: Context, name: str | None) -> int:
    """One server, or all; exits 1 when something is wrong with any."""
    servers = [registry().get(name)] if name else list(registry().all().values())
    if not servers:
        raise TakoError("There are no servers.", cure="Add one: tako servers add root@ADDRESS")
    found = [_look(server) for server in servers]
    if context.output.json:
        context.output.document({"servers": found})
    else:
        for each in found:
            _show(context.output, each, now_ms=context.now_ms())
    return DONE if all(not each["problems"] for each in found) else REFUSED


def _look(server: Server) -> dict[str, Any]:
    """What it tells, and what is wrong with that."""
    found: dict[str, Any] = {"name": server.name, "address": server.address, "problems": []}
    link = connection(server)
    try:
        link.connect()
        found |= _facts(link.run(remote.facts()).out.decode(errors="replace"))
        with Channel(link) as channel:
            found["hello"] = channel.hello
            found["apps"] = channel.call("app.list")["apps"]
            found["routes"] = channel.call("routes")["routes"]
    except TakoError as error:
        found["problems"].append({"what": error.message, "cure": error.cure})
    found["problems"] += _problems(found)
    return found


def _facts(text: str) -> dict[str, Any]:
    facts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    disk, memory, load = (facts.get(name, "").split() for name in ("disk", "memory", "load"))
    return {
        "server": facts.get("server", "unknown"),
        "caddy": facts.get("caddy", "unknown"),
        "since": facts.get("since", ""),
        "disk_free_mb": int(disk[0]) if disk else None,
        "disk_mb": int(disk[1]) if disk else None,
        "memory_free_mb": int(memory[0]) if memory else None,
        "memory_mb": int(memory[1]) if memory else None,
        "load": load[:3],
        "processors": int(load[3]) if len(load) > 3 else None,
    }


def _problems(found: dict[str, Any]) -> list[dict[str, str]]:
    problems = [
        {"what": f"tako-{unit} is {found[unit]}.", "cure": f"tako servers logs {found['name']}"}
        for unit in ("server", "caddy")
        if found.get(unit, "active") != "active"
    ]
    free, size = found.get("disk_free_mb"), found.get("disk_mb")
    if free is not None and size and free < size * LOW_DISK:
        problems.append(
            {"what": f"Its disk is nearly full: {free:,} of {size:,} MB are free.", "cure": "Deploys will be refused."}
        )
    for app in found.get("apps", []):
        if app["state"] == "failed":
            where = f"{app['app']} ({app['env']})"
            problems.append({"what": f"{where} is failed: {app['reason']}", "cure": f"tako logs --env {app['env']}"})
    return problems


def _show(output: Output, found: dict[str, Any], *, now_ms: int) -> None:
    name = f"{found['name']} ({found['address']})"
    if found["problems"]:
        output.result(f"{output.shown('✘', '31')} {name}")
    else:
        output.result(f"{output.shown('✔', '32')} {name}: nothing is wrong.")
    for problem in found["problems"]:
        first, *more = str(problem["what"]).split("\n")
        output.result(f"  {output.shown('✘', '31')} {clean(first)}")
        for line in [*more, *problem["cure"].split("\n")]:
            output.result(f"    {clean(line)}")
    if hello := found.get("hello"):
        up = moments.span(max(0, now_ms - hello["started_ms"]))
        output.result(f"  {output.shown('tako', DIM)}    {hello['version']}, up {up}, Python {hello['python']}")
    if found.get("disk_mb"):
        output.result(
            f"  {output.shown('machine', DIM)} {found['disk_free_mb']:,} of {found['disk_mb']:,} MB disk free, "
            f"{found['memory_free_mb']:,} of {found['memory_mb']:,} MB memory free, "
            f"load {' '.join(found['load'])} on {found['processors']} processors"
        )
    for app in found.get("apps", []):
        hosts = ", ".join(app["routes"]) or "no route"
        instances = len(app["instances"])
        output.result(
            f"  {output.shown('app', DIM)}     {clean(app['app'])} ({clean(app['env'])}) {output.shown(app['state'])}, "
            f"{app['release'] or 'no release'}, {instances} instance{'' if instances == 1 else 's'}, {clean(hosts)}"
        )
