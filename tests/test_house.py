"""The arrows between rooms, and what pure modules may not touch. The table is the picture of docs/how-it-works.md."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tako

ROOT = Path(tako.__file__).parent

# Whoever needs a new arrow changes this table in the same commit and says why.
EVERYWHERE = {"errors"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    # Cold rooms: they load in every app and every worker, and know no warm one.
    "protocol": set(),
    "rpc": {"protocol"},
    "sdk": {"rpc", "protocol"},
    "worker": {"sdk", "protocol"},
    "web": {"sdk", "protocol"},
    "contrib": {"sdk", "protocol"},
    # The durable part and the moving part do not know each other; they meet in `host`.
    "engine": {"clock", "protocol"},
    "cron": {"engine", "clock", "protocol"},
    "supervisor": {"clock", "protocol"},
    "logs": {"protocol"},
    "config": {"protocol"},
    "vault": set(),
    "ingress": {"protocol"},
    "discovery": set(),
    # Tells people beside the engine's work: it knows how to reach them, not what it tells.
    "alerts": {"config", "clock"},
    # What is counted: it knows numbers, not what they are of.
    "metrics": set(),
    # Knows an app by `dashboard/apps.py` alone: what it shows comes from the commands of `host`, whichever process
    # that is in.
    "dashboard": {"logs", "metrics", "protocol"},
    "host": {
        "engine", "cron", "supervisor", "logs", "protocol", "rpc", "discovery", "config", "vault", "alerts", "clock",
        "metrics",
    },
    # Only `dev` and `server` choose. `engine` and `supervisor`: their events are told to the terminal.
    "dev": {
        "host", "ingress", "dashboard", "config", "logs", "protocol", "discovery", "supervisor", "engine",
    },
    # Calls the engine from outside, as an app does.
    "bench": {"sdk"},
    # The laptop's side of a server: it speaks the management protocol, and knows nothing of what the daemon does.
    "deploy": {"config", "protocol", "rpc", "vault"},
    # Beside `dev`: the same host and supervisors, for many apps and their releases. `engine`: what a flip moves.
    "server": {
        "host", "dashboard", "supervisor", "engine", "ingress", "config", "discovery", "logs", "metrics", "rpc",
        "clock", "protocol",
    },
    "cli": {"bench", "dev", "deploy", "host", "vault", "config", "logs", "rpc", "protocol", "alerts", "clock"},
    # A daemon and its worker in one process: `host` for what is checked at the door, `config` and `discovery` to find
    # the project under test.
    "testing": {"engine", "cron", "host", "worker", "sdk", "rpc", "config", "discovery", "clock", "protocol"},
    "__main__": {"cli"},
}  # fmt: skip

# Modules of a room that has both: the daemon's half loads asyncio, and no cold file may reach it.
WARM_HALVES = {"tako.rpc.server", "tako.rpc.auth"}
COLD_ROOMS = ("protocol", "sdk", "worker", "web", "contrib")
COLD_RPC = ("client.py", "link.py", "request.py", "stream.py", "aio.py")

# Rules take time and chance as arguments: that is what lets the simulator own both.
PURE = (
    "protocol/control.py",
    "protocol/framing.py",
    "protocol/http1.py",
    "protocol/templates.py",
    "rpc/request.py",
    "engine/claims.py",
    "engine/endings.py",
    "engine/events.py",
    "engine/guard.py",
    "engine/health.py",
    "engine/inspect.py",
    "engine/intake.py",
    "engine/interventions.py",
    "engine/invariants.py",
    "engine/leases.py",
    "engine/payloads.py",
    "engine/limits.py",
    "engine/line.py",
    "engine/options.py",
    "engine/pauses.py",
    "engine/pausing.py",
    "engine/registry.py",
    "engine/retention.py",
    "engine/retry.py",
    "engine/runs.py",
    "engine/states.py",
    "engine/steps.py",
    "engine/waiters.py",
    "cron/expression.py",
    "cron/schedules.py",
    "supervisor/deaths.py",
    "supervisor/events.py",
    "supervisor/exits.py",
    "supervisor/health.py",
    "supervisor/patience.py",
    "supervisor/rows.py",
    "supervisor/states.py",
    "supervisor/turn.py",
    "logs/filters.py",
    "logs/redact.py",
    "logs/width.py",
    "ingress/hosts.py",
    "deploy/plan.py",
    "deploy/remote.py",
    "deploy/target.py",
    "vault/names.py",
    "metrics/exposition.py",
    "metrics/instruments.py",
    "metrics/ring.py",
    "dashboard/charts.py",
    "dashboard/guard.py",
    "dashboard/timeline.py",
    "alerts/alert.py",
    "alerts/grouping.py",
)
IMPURE_MODULES = {
    "time", "os", "asyncio", "threading", "_thread", "subprocess", "multiprocessing", "uuid", "secrets", "socket",
    "select", "selectors", "signal", "tempfile",
}  # fmt: skip
IMPURE_CALLS = {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow"), ("date", "today")}


@functools.cache
def rooms() -> list[str]:
    return sorted({path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")} - {"__init__"})


def files(room: str) -> list[Path]:
    return [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))


@functools.cache
def imports(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything that a file imports, in functions and for type checkers included."""
    return list(walk_imports(path))


def walk_imports(path: Path) -> Iterator[tuple[int, str]]:
    package = ["tako", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            home = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{home}.{alias.name}"


def imported_rooms(path: Path) -> set[tuple[int, str]]:
    found = set()
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] != "tako" or parts[1:] == ["__version__"]:
            continue
        # What comes through the front door (`from tako import workflow`) comes from the room behind it.
        behind = tako._HOME.get(parts[1], "tako.sdk").split(".")[1] if len(parts) > 1 else "sdk"
        found.add((line, parts[1] if len(parts) > 1 and parts[1] in rooms() else behind))
    return found


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    assert room in MAY_IMPORT, f"{room} is new: say in MAY_IMPORT what it may import"
    allowed = MAY_IMPORT[room] | EVERYWHERE | {room}

    strangers = [
        f"{path.relative_to(ROOT)}:{line} imports {other}"
        for path in files(room)
        for line, other in sorted(imported_rooms(path))
        if other not in allowed
    ]

    assert not strangers, "\n".join([*strangers, f"{room} may import: {', '.join(sorted(MAY_IMPORT[room]))}"])


def test_the_table_says_no_more_than_is_true() -> None:
    unused = [
        f"{room} -> {other}"
        for room in rooms()
        for other in sorted(MAY_IMPORT.get(room, set()))
        if (ROOT / other).exists() or (ROOT / f"{other}.py").exists()
        if not any(name == other for path in files(room) for _, name in imported_rooms(path))
    ]

    assert not unused, f"nobody follows these arrows any more, take them out: {', '.join(unused)}"


def test_errors_import_nothing() -> None:
    assert imports(ROOT / "errors.py") == []


@pytest.mark.parametrize("room", COLD_ROOMS)
def test_a_cold_room_imports_no_warm_one(room: str) -> None:
    assert MAY_IMPORT[room] <= {*COLD_ROOMS, "rpc"}


def test_engine_and_supervisor_do_not_know_each_other() -> None:
    assert "supervisor" not in MAY_IMPORT["engine"]
    assert "engine" not in MAY_IMPORT["supervisor"]


def test_the_table_names_no_circle() -> None:
    def below(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, " -> ".join([*way, room])
        for other in MAY_IMPORT.get(room, ()):
            below(other, (*way, room))

    for room in MAY_IMPORT:
        below(room, ())


def test_cold_files_never_reach_the_daemons_half_of_rpc() -> None:
    cold = [path for room in COLD_ROOMS if (ROOT / room).exists() for path in files(room)]
    cold += [ROOT / "rpc" / name for name in COLD_RPC]

    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in cold
        for line, name in imports(path)
        if any(name == half or name.startswith(f"{half}.") for half in WARM_HALVES)
    ]

    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_takes_time_and_chance_as_arguments(name: str) -> None:
    path = ROOT / name
    found = [
        f"{name}:{line} imports {module}" for line, module in imports(path) if module.split(".")[0] in IMPURE_MODULES
    ]
    tree = ast.parse(path.read_text())
    unordered = {argument for node in ast.walk(tree) for argument in order_does_not_matter_to(node)}
    for node in ast.walk(tree):
        found += impurities(name, node)
        if node not in unordered:
            found += unordered_walks(name, node)

    assert not found, "\n".join(found)


def impurities(name: str, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        # `random.Random` is the type of what is passed in; everything else of the module is chance itself.
        if node.value.id == "random" and node.attr != "Random":
            yield f"{name}:{node.lineno} uses random.{node.attr}"
        if (node.value.id, node.attr) in IMPURE_CALLS:
            yield f"{name}:{node.lineno} asks for the time"
    if isinstance(node, ast.ImportFrom) and node.module == "random":
        yield from (f"{name}:{node.lineno} uses random.{alias.name}" for alias in node.names if alias.name != "Random")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("id", "hash"):
        yield f"{name}:{node.lineno} calls {node.func.id}(), which differs from process to process"


def unordered_walks(name: str, node: ast.AST) -> Iterator[str]:
    for walked in walked_by(node):
        if is_set(walked):
            yield f"{name}:{walked.lineno} walks over a set, whose order differs from process to process: sort it"


def order_does_not_matter_to(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.args if node.func.id in ("sorted", "set", "frozenset", "any", "all", "sum", "min", "max") else []
    return []


def walked_by(node: ast.AST) -> list[ast.expr]:
    """What a loop, a comprehension (into anything but a set) or a list() walks over."""
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple", "next"):
        return node.args[:1]
    return []


def is_set(node: ast.expr) -> bool:
    """Whether it can be seen where it stands that this is a set."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub):
        return any(map(is_set, (node.left, node.right))) or any(map(is_keys, (node.left, node.right)))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")


def is_keys(node: ast.expr) -> bool:
    """`a.keys() & b` is a set."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"


def test_every_module_says_in_its_first_line_what_it_holds() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, f"no docstring: {', '.join(sorted(silent))}"


def test_no_module_at_the_top_is_named_like_a_public_name() -> None:
    names = {path.stem for path in ROOT.iterdir()} & set(tako.__all__)
    assert not names, f"importing tako.{names} would hide the name of the front door"


def test_no_module_hides_one_of_the_standard_library() -> None:
    hidden = {path.stem for path in ROOT.glob("*.py")} & sys.stdlib_module_names
    assert not hidden
