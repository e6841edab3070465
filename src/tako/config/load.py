"""Read a folder's `tako.toml` into a Config: every key is checked, and every problem names file, line and key."""

import dataclasses
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tako.config import files, keys, positions
from tako.config.model import (
    DEFAULT_GROUP,
    DEVELOPMENT,
    Alerts,
    BuildSettings,
    Config,
    EmailAlert,
    Environment,
    GroupSettings,
    ServerSettings,
    WebSettings,
)
from tako.config.section import Problems, Table, dotted, nearest, read, table_at
from tako.errors import ConfigError

FILE = "tako.toml"
MAX_BYTES = 1_048_576
_SECONDS = ("idle_timeout", "boot_timeout", "drain_timeout", "start_timeout", "retention")
_BYTES = {"memory": "memory_bytes"}


def load(folder: Path) -> Config:
    """The app of `folder`. Without a `tako.toml` there, an app with the folder's name and every default.

    Raises:
        ConfigError: the file cannot be read, or says something that cannot be done; all problems at once.
    """
    root = Path(folder).resolve()
    path = root / FILE
    try:
        data = files.read(path, most=MAX_BYTES)
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(f"{FILE}: a symbolic link to a file that does not exist.") from None
        return Config(name=name_of(root), root=root, python=_python(None, root))
    except OSError as error:
        raise ConfigError(
            f"{FILE}: cannot be read: {error.strerror}.", cure="Check what it is and who may read it."
        ) from error
    return parse(data, root=root)


def parse(data: bytes, *, root: Path) -> Config:
    """The app that these bytes describe, in `root`. Raises ConfigError, and nothing else, whatever the bytes are."""
    text = _decode(data)
    document, lines = _toml(text)
    problems = Problems(FILE, lines)
    config = _config(problems, document, root=root, lines=lines)
    problems.raise_any()
    return config


def name_of(folder: Path) -> str:
    """The app's name that a folder's name makes: lowercase letters, digits, hyphens; "app" when nothing is left."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:40].strip("-")
    return name or "app"


def check_groups(config: Config, used: Iterable[str]) -> None:
    """Hold the group tables against the groups that workflows name.

    Raises:
        ConfigError: a table that no workflow uses, or, once there is a table, a group that no table declares
            (`default` needs none). Both would be settings that have no effect.
    """
    used = set(used)
    declared = {name for name in config.groups if name != DEFAULT_GROUP or ("workflows", name) in config.lines}
    problems = Problems(FILE, config.lines)
    for name in sorted(declared - used):
        undeclared = used - declared
        hint = f'; did you mean "{close}"?' if (close := nearest(name, undeclared)) else ""
        problems.add(("workflows", name), f"no workflow is of this group{hint}")
    for name in sorted(used - declared - {DEFAULT_GROUP}) if declared else ():
        close = nearest(name, declared)
        hint = f'; did you mean "{close}"?' if close else f"; add it, or use one of: {', '.join(sorted(declared))}"
        problems.add(("workflows",), f'a workflow is of group "{keys.clean(name)}", which has no table{hint}')
    problems.raise_any()


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{FILE}: larger than {MAX_BYTES} bytes.", cure="Is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise ConfigError(f"{FILE}:{line}: not UTF-8 (byte 0x{byte:02x}).", cure="Save the file as UTF-8.") from error


def _toml(text: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    try:
        return tomllib.loads(text), positions.find(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(str(error), text)) from error
    except RecursionError as error:
        raise ConfigError(f"{FILE}: nested too deep.") from error
    except ValueError as error:  # a number with thousands of digits, a date that no calendar has
        raise ConfigError(f"{FILE}: not TOML: {keys.clean(str(error), limit=120)}") from error


def _syntax(message: str, text: str) -> str:
    """tomllib's words with the line where an editor looks for it."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if not found:
        return f"{FILE}: not TOML: {keys.clean(message, limit=120)}"
    what, line, column = found.groups()
    what = keys.clean(what, limit=120)
    if line is None:
        return f"{FILE}:{text.count(chr(10)) + 1}: not TOML: {what}, at the end of the file"
    return f"{FILE}:{line}: not TOML: {what}, at column {column}"


def _config(problems: Problems, document: Table, *, root: Path, lines: Mapping[tuple[str, ...], int]) -> Config:
    top = read(problems, document, (), keys.TOP, other=keys.TABLES)
    base, groups = _groups(problems, document)
    workflows = _with_units(base)
    envs = _environments(problems, document)
    shared, vars_of = _variables(problems, document, envs)
    return Config(
        name=top.get("name") or name_of(root),
        root=root,
        path=root / FILE,
        main=top.get("main"),
        python=_python(top.get("python"), root),
        release=top.get("release"),
        vars=shared,
        vars_of=vars_of,
        groups=_settings(base, groups),
        web=_web(problems, document, main=top.get("main")),
        build=BuildSettings(**read(problems, table_at(problems, document, (), "build"), ("build",), keys.BUILD)),
        envs=envs,
        servers=_servers(problems, document, base, groups, envs),
        alerts=_alerts(problems, document),
        lines=lines,
        **{key: workflows[key] for key in ("retention_s", "durability") if key in workflows},
    )


def _python(value: str | None, root: Path) -> str:
    """The interpreter's path. It is not looked for here: a worker that cannot be spawned says so better."""
    if value is None:
        return str(root / ".venv/bin/python") if (root / ".venv").is_dir() else sys.executable
    if "/" in value:
        return str(root / Path(value).expanduser())
    return shutil.which(value) or value


# Workers


Values = dict[str, Any]


def _groups(problems: Problems, document: Table) -> tuple[Values, dict[str, Values]]:
    """`[workflows]` and its group tables, each only with what it says itself."""
    table = table_at(problems, document, (), "workflows")
    return _base_and_groups(problems, table, ("workflows",), keys.WORKFLOWS)


def _base_and_groups(
    problems: Problems, table: Table, path: tuple[str, ...], checks: Mapping[str, keys.Check]
) -> tuple[Values, dict[str, Values]]:
    names = [name for name, value in table.items() if isinstance(value, dict) and name not in checks]
    base = read(problems, table, path, checks, other=names)
    _check_bounds(problems, path, base, base)
    groups = {}
    for name in names:
        if not keys.GROUP_NAME.fullmatch(name):
            problems.add((*path, name), "a group's name has letters, digits, - and _ only, at most 63")
            continue
        groups[name] = read(problems, table[name], (*path, name), keys.GROUP)
        _check_bounds(problems, (*path, name), groups[name], {**base, **groups[name]})
    return base, groups


def _check_bounds(problems: Problems, path: tuple[str, ...], own: Values, effective: Values) -> None:
    if own.get("max_workers", 1000) < effective.get("workers", 0):
        most, least = own["max_workers"], effective["workers"]
        problems.add((*path, "max_workers"), f"expected at least as many as workers ({least}), found {most}")


def _settings(base: Values, groups: Mapping[str, Values]) -> dict[str, GroupSettings]:
    return {name: _group(base, groups.get(name, {})) for name in (DEFAULT_GROUP, *groups)}


def _group(*layers: Values) -> GroupSettings:
    """The settings that layers of values make, the last one winning; there are never fewer places than workers."""
    known = {field.name for field in dataclasses.fields(GroupSettings)}
    values: Values = {}
    for layer in layers:
        values.update(_with_units(layer))
    settings = GroupSettings(**{key: value for key, value in values.items() if key in known})
    return dataclasses.replace(settings, max_workers=max(settings.max_workers, settings.workers))


def _with_units(values: Values) -> Values:
    """Under the names of the model, which say the unit."""
    return {f"{key}_s" if key in _SECONDS else _BYTES.get(key, key): value for key, value in values.items()}


def _servers(
    problems: Problems,
    document: Table,
    base: Values,
    groups: Mapping[str, Values],
    envs: Mapping[str, Environment],
) -> dict[str, ServerSettings]:
    used = {server for environment in envs.values() for server in environment.servers}
    servers = {}
    table = table_at(problems, document, (), "servers")
    for name in table:
        path = ("servers", name)
        server = table_at(problems, table, ("servers",), name)
        values = read(problems, server, path, keys.SERVER, other=("workflows",))
        if len(values) == 1:
            problems.add(path, "address and host_key go together: a key without its host is no use, nor the other way")
        if name not in used:
            hint = f'; did you mean "{close}"?' if (close := nearest(name, used)) else ""
            problems.add(path, f"no environment is on this server{hint}")
        own = table_at(problems, server, path, "workflows")
        own_base, own_groups = _base_and_groups(problems, own, (*path, "workflows"), keys.GROUP)
        for group in own_groups.keys() - groups.keys() - {DEFAULT_GROUP}:
            hint = f'; did you mean "{close}"?' if (close := nearest(group, groups)) else ""
            problems.add((*path, "workflows", group), f"there is no [workflows.{group}] to override{hint}")
        servers[name] = ServerSettings(name=name, groups=_overridden(base, groups, own_base, own_groups), **values)
    return servers


def _overridden(
    base: Values, groups: Mapping[str, Values], own_base: Values, own_groups: Mapping[str, Values]
) -> dict[str, GroupSettings]:
    """A group's table is nearer to the group than a server's [workflows]; a server's own table of it is nearest."""
    if not own_base and not own_groups:
        return {}
    names = dict.fromkeys((DEFAULT_GROUP, *groups))
    return {name: _group(base, own_base, groups.get(name, {}), own_groups.get(name, {})) for name in names}


# Web


def _web(problems: Problems, document: Table, *, main: str | None) -> WebSettings:
    table = table_at(problems, document, (), "web")
    values = read(problems, table, ("web",), keys.WEB)
    if "command" in values and main is not None:
        problems.add(("web", "command"), "stands instead of main; remove one of them")
    if "listen" in values and "command" not in table:
        problems.add(("web", "listen"), "is for a command, and there is none; remove it, or add web.command")
    return WebSettings(**_with_units(values))


# What a server needs


def _environments(problems: Problems, document: Table) -> dict[str, Environment]:
    envs = {}
    table = table_at(problems, document, (), "envs")
    for name in table:
        path = ("envs", name)
        values = read(problems, table_at(problems, table, ("envs",), name), path, keys.ENVIRONMENT)
        if not keys.APP_NAME.fullmatch(name):
            problems.add(path, "an environment's name has lowercase letters, digits and hyphens only")
        if name == DEVELOPMENT:
            problems.add(path, "development is what `tako dev` runs; it is not deployed")
        if "route" in values and "routes" in values:
            problems.add((*path, "route"), "stands instead of routes; remove one of them")
        route = (values["route"],) if "route" in values else ()
        envs[name] = Environment(name=name, routes=route or values.get("routes", ()), servers=values.get("servers", ()))
    return envs


def _variables(
    problems: Problems, document: Table, envs: Mapping[str, Environment]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    table = table_at(problems, document, (), "vars")
    shared = {}
    vars_of = {}
    known = {DEVELOPMENT, "production", *envs}
    for name, value in table.items():
        if isinstance(value, dict):
            vars_of[name] = {key: _variable(problems, ("vars", name, key), item) for key, item in value.items()}
            if name not in known:
                hint = (
                    f'did you mean "{close}"?'
                    if (close := nearest(name, known))
                    else f"known: {', '.join(sorted(known))}"
                )
                problems.add(("vars", name), f"there is no environment of this name; {hint}")
        else:
            shared[name] = _variable(problems, ("vars", name), value)
    return shared, vars_of


def _variable(problems: Problems, path: tuple[str, ...], value: object) -> str:
    if problem := keys.variable_problem(path[-1]):
        problems.add(path, problem)
    elif not isinstance(value, str):
        quoted = f'; write "{value}"' if type(value) in (int, float) and len(str(value)) < 40 else ""
        problems.add(path, f"expected a text{quoted}")
    elif "\0" in value:
        problems.add(path, "expected a text without NUL characters")
    return value if isinstance(value, str) else ""


def _alerts(problems: Problems, document: Table) -> Alerts:
    table = table_at(problems, document, (), "alerts")
    values = read(problems, table, ("alerts",), keys.ALERTS, other=("email",))
    path = ("alerts", "email")
    mail = table_at(problems, table, ("alerts",), "email")
    found = read(problems, mail, path, keys.EMAIL)
    if mail and (missing := [key for key in keys.EMAIL if key not in mail]):
        problems.add(path, f"expected {missing[0]} too; {dotted(path)} needs to and smtp")
    email = EmailAlert(**found) if len(found) == len(keys.EMAIL) else None
    return Alerts(**values, email=email)
