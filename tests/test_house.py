"""The arrows between rooms, and what pure modules may not touch. The table is the picture of docs/how-it-works.md."""

from __future__ import annotations

import ast
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
    "worker": {"sdk", "rpc", "protocol"},
    "web": {"sdk", "protocol"},
    "contrib": {"sdk", "protocol"},
    # The durable part and the moving part do not know each other; they meet in `host`.
    "engine": {"clock", "protocol"},
    "cron": {"engine", "clock", "protocol"},
    "supervisor": {"clock", "protocol"},
    "logs": {"protocol"},
    "config": {"protocol"},
    "vault": {"protocol"},
    "ingress": {"protocol"},
    "discovery": set(),
    # Tells people beside the engine's work: it knows how to reach them, not what it tells.
    "alerts": {"config", "protocol", "clock"},
    "dashboard": {"engine", "logs", "protocol"},
    "host": {
        "engine", "cron", "supervisor", "logs", "protocol", "rpc", "discovery", "config", "vault", "alerts", "clock",
    },
    # Only `dev` and `server` choose. `engine` and `supervisor`: their events are told to the terminal.
    "dev": {
        "host", "ingress", "dashboard", "vault", "config", "logs", "rpc", "protocol", "discovery", "supervisor",
        "engine", "clock",
    },
    "cli": {
        "dev", "host", "vault", "config", "logs", "rpc", "protocol", "discovery", "sdk", "supervisor", "alerts",
        "clock",
    },
    # A daemon and its worker in one process: `host` for what is checked at the door, `config` and `discovery` to find
    # the project under test.
    "testing": {"engine", "cron", "host", "worker", "sdk", "rpc", "config", "discovery", "clock", "protocol"},
    "__main__": {"cli"},
}  # fmt: skip

# Modules of a room that has both: the daemon's half loads asyncio, and no cold file may reach it.
WARM_HALVES = {"tako.rpc.server", "tako.rpc.auth"}
COLD_ROOMS = ("protocol", "sdk", "worker", "web", "contrib")
COLD_RPC = ("client.py", "link.py", "request.py", "aio.py")

# Rules take time and chance as arguments: that is what lets the simulator own both.
PURE = (
    "protocol/framing.py",
    "protocol/templates.py",
    "engine/claims.py",
    "engine/endings.py",
    "engine/health.py",
    "engine/inspect.py",
    "engine/intake.py",
    "engine/interventions.py",
    "engine/invariants.py",
    "engine/leases.py",
    "engine/registry.py",
    "engine/retention.py",
    "engine/retry.py",
    "engine/runs.py",
    "engine/states.py",
    "engine/steps.py",
    "engine/waiters.py",
    "cron/expression.py",
    "supervisor/health.py",
    "alerts/alert.py",
    "alerts/grouping.py",
)
IMPURE_MODULES = {"time", "os", "asyncio", "threading", "_thread", "subprocess", "uuid", "secrets", "socket"}
IMPURE_CALLS = {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow"), ("date", "today")}


def rooms() -> list[str]:
    return sorted({path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")} - {"__init__"})


def files(room: str) -> list[Path]:
    return [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, function-level imports included."""
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
        if parts[0] == "tako" and len(parts) > 1 and (parts[1] in rooms()):
            found.add((line, parts[1]))
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


def test_errors_import_nothing() -> None:
    assert list(imports(ROOT / "errors.py")) == []


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
    for node in ast.walk(ast.parse(path.read_text())):
        found += impurities(name, node)

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
