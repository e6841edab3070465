"""Write a Config as a `tako.toml` that says everything it says, defaults included: `parse(dump(config)) == config`."""

import json
from collections.abc import Mapping

from tako.config import durations
from tako.config.model import DEFAULT_GROUP, BuildSettings, Config, GroupSettings, WebSettings

Values = Mapping[str, object]


def dump(config: Config) -> str:
    """The text of a `tako.toml`. Comments and the order of an original are not kept."""
    out = [_lines({"name": config.name, "main": config.main, "python": config.python, "release": config.release})]
    out += [_table(("vars",), config.vars)]
    out += [_table(("vars", name), values, always=True) for name, values in config.vars_of.items()]
    out += _groups(("workflows",), config.groups, extra=_stored(config))
    out += [_table(("web",), _web(config.web)), _table(("build",), _build(config.build))]
    for name, env in config.envs.items():
        out += [_table(("envs", name), {"routes": env.routes or None, "servers": env.servers or None}, always=True)]
    for name, server in config.servers.items():
        own = {"address": server.address, "host_key": server.host_key}
        out += [_table(("servers", name), own, always=not server.groups)]
        out += _groups(("servers", name, "workflows"), server.groups) if server.groups else []
    alerts = config.alerts
    out += [_table(("alerts",), {"webhook": alerts.webhook, "command": alerts.command})]
    if alerts.email:
        out += [_table(("alerts", "email"), {"to": alerts.email.to, "smtp": alerts.email.smtp})]
    return "\n".join(part for part in out if part)


def _build(build: BuildSettings) -> dict[str, object]:
    return {"run": build.run, "include": build.include or None}


def _stored(config: Config) -> dict[str, object]:
    return {"retention": durations.text(config.retention_s), "durability": config.durability}


def _groups(path: tuple[str, ...], groups: Mapping[str, GroupSettings], extra: Values | None = None) -> list[str]:
    tables = []
    for name, group in groups.items():
        is_base = name == DEFAULT_GROUP
        values = {**_group(group), **(extra or {})} if is_base else _group(group)
        tables.append(_table(path if is_base else (*path, name), values))
    return tables


def _group(group: GroupSettings) -> dict[str, object]:
    return {
        "workers": group.workers,
        "concurrency": group.concurrency,
        "idle_timeout": durations.text(group.idle_timeout_s),
        "max_workers": group.max_workers,
        "boot_timeout": durations.text(group.boot_timeout_s),
        "drain_timeout": durations.text(group.drain_timeout_s),
        "memory": _size(group.memory_bytes),
    }


def _web(web: WebSettings) -> dict[str, object]:
    return {
        "instances": web.instances,
        "idle_timeout": "never" if web.idle_timeout_s is None else durations.text(web.idle_timeout_s),
        "health": web.health,
        "start_timeout": durations.text(web.start_timeout_s),
        "drain_timeout": durations.text(web.drain_timeout_s),
        "command": web.command,
        "listen": web.listen if web.command else None,
        "memory": _size(web.memory_bytes),
        "static": web.static or None,
    }


def _size(number: int | None) -> str | None:
    if number is None:
        return None
    return f"{number >> 30}G" if number % (1 << 30) == 0 else f"{number >> 20}M"


def _table(path: tuple[str, ...], values: Values, *, always: bool = False) -> str:
    body = _lines(values)
    return f"[{'.'.join(_key(part) for part in path)}]\n{body}" if body or always else ""


def _lines(values: Values) -> str:
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in values.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return _text(value) if isinstance(value, str) else str(value)


def _key(name: str) -> str:
    return name if name.replace("_", "a").replace("-", "a").isalnum() and name.isascii() else _text(name)


def _text(value: str) -> str:
    # JSON's escapes are TOML's too, but for DEL, which TOML wants escaped, and for surrogate pairs: so not ASCII only.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
