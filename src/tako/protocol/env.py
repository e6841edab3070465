"""The environment of every process that Tako starts: `build` for who spawns, `read` for who is spawned."""

import os

from tako.errors import NoEngine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

APP_NAME = "TAKO_APP_NAME"
INTERNAL_SOCKET = "TAKO_INTERNAL_SOCKET"
ENVIRONMENT = "ENV"
BUILD = "TAKO_BUILD"
DATA_DIR = "TAKO_DATA_DIR"
CONCURRENCY = "TAKO_WORKER_CONCURRENCY"
IDLE_TIMEOUT_MS = "TAKO_WORKER_IDLE_TIMEOUT_MS"
GROUP = "TAKO_WORKFLOW_WORKER"
BOOT_TIMEOUT_MS = "TAKO_BOOT_TIMEOUT_MS"
DRAIN_TIMEOUT_MS = "TAKO_DRAIN_TIMEOUT_MS"

# From the shell that started the daemon, and nothing else. `tako dev` prints the names of what it left out.
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_RUNTIME_DIR")
PASSED_ON_PREFIXES = ("LC_",)


def passes(name: str) -> bool:
    """Whether a variable of the daemon's own environment reaches the processes it starts."""
    return name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)


def url_variable(app: str) -> str:
    """The variable that tells where an app answers: TAKO_URL_MY_APP."""
    return "TAKO_URL_" + "".join(char if char.isalnum() else "_" for char in app).upper()


def build(
    *,
    inherited: "Mapping[str, str]",
    variables: "Mapping[str, str]",
    app: str,
    socket: str,
    environment: str,
    release: str,
    data_dir: str,
    worker: "Mapping[str, str] | None" = None,
    web: "Mapping[str, str] | None" = None,
) -> dict[str, str]:
    """The whole environment of a child.

    `inherited` is the daemon's own, of which little is passed on; `variables` are the app's `[vars]`; `worker` and
    `web` are what only that kind of process gets (SPEC.md section 1). Later ones win; ours win over all.
    """
    found = {name: value for name, value in inherited.items() if passes(name)}
    found.update(variables)
    found.update(worker or {})
    found.update(web or {})
    found.update({
        APP_NAME: app, INTERNAL_SOCKET: socket, ENVIRONMENT: environment, BUILD: release, DATA_DIR: data_dir,
        "PYTHONUNBUFFERED": "1",
    })  # fmt: skip
    return found


class ProcessEnvironment:
    """What a process learns from its environment."""

    __slots__ = ("app", "data_dir", "environment", "release", "socket")

    def __init__(self, *, app: str, socket: str, environment: str, release: str, data_dir: str) -> None:
        self.app = app
        self.socket = socket
        self.environment = environment
        self.release = release
        self.data_dir = data_dir


def read(environ: "Mapping[str, str] | None" = None) -> ProcessEnvironment | None:
    """What the environment says, or None when this process was not started by Tako.

    Raises:
        NoEngine: only one of TAKO_APP_NAME and TAKO_INTERNAL_SOCKET is set, which is never right.
    """
    environ = os.environ if environ is None else environ
    app, socket = environ.get(APP_NAME), environ.get(INTERNAL_SOCKET)
    if not app and not socket:
        return None
    if not app or not socket:
        present, missing = (APP_NAME, INTERNAL_SOCKET) if app else (INTERNAL_SOCKET, APP_NAME)
        raise NoEngine(
            f"{present} is set but {missing} is not, so the engine cannot be found.",
            cure="Start the process with `tako dev` or `tako run -- COMMAND`, or unset both.",
        )
    return ProcessEnvironment(
        app=app,
        socket=socket,
        environment=environ.get(ENVIRONMENT, "development"),
        release=environ.get(BUILD, "dev"),
        data_dir=environ.get(DATA_DIR, ""),
    )
