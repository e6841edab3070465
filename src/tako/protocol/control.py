"""What a web instance is started with, and what goes over fd 4: JSON lines, both directions. SPEC.md section 4."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, NotRequired, TypedDict

    class FromInstance(TypedDict):
        """What an instance tells."""

        ev: Literal["ready", "serving", "paused", "stat"]
        pid: NotRequired[int]
        boot_ms: NotRequired[int]
        inflight: NotRequired[int]
        done: NotRequired[int]

    class ToInstance(TypedDict):
        """What an instance is told."""

        do: Literal["serve", "pause", "drain", "adopt", "status"]
        timeout_s: NotRequired[float]


CONTROL_FD = 4
LISTENER_FD = 5

# Asked by the page that stands in for an app which cannot be served, to see whether it has been mended.
LOOK_PATH = "/.tako/look"

# Paths of sockets, in the environment of an instance.
CONTROL_SOCKET = "TAKO_CTL_SOCK"
PRIVATE_SOCKET = "TAKO_PRIVATE_SOCK"


class Arguments:
    """What an instance serves and how: `main` ("app:app", "app:create_app()") or, in its place, `command`.

    `listen` says how a command is reached: "port" or "fd". `access_log`: one line for each request. An instance whose
    daemon is gone goes on; in development it drains when no other has adopted it within `orphan_timeout_ms` (0: never).
    """

    __slots__ = ("access_log", "command", "drain_timeout_ms", "listen", "main", "orphan_timeout_ms", "start_timeout_ms")

    def __init__(
        self,
        *,
        main: str = "",
        command: "Sequence[str]" = (),
        listen: str = "port",
        access_log: bool = False,
        start_timeout_ms: int = 30_000,
        drain_timeout_ms: int = 30_000,
        orphan_timeout_ms: int = 0,
    ) -> None:
        self.main = main
        self.command = tuple(command)
        self.listen = listen
        self.access_log = access_log
        self.start_timeout_ms = start_timeout_ms
        self.drain_timeout_ms = drain_timeout_ms
        self.orphan_timeout_ms = orphan_timeout_ms


def argv(python: str, arguments: Arguments) -> list[str]:
    """The command line of an instance; `read_argv` reads what stands behind the module's name."""
    line = [python, "-m", "tako.web"]
    if arguments.access_log:
        line.append("--access-log")
    line.append(f"--start-timeout-ms={arguments.start_timeout_ms}")
    line.append(f"--drain-timeout-ms={arguments.drain_timeout_ms}")
    if arguments.orphan_timeout_ms:
        line.append(f"--orphan-timeout-ms={arguments.orphan_timeout_ms}")
    if arguments.command:
        return [*line, f"--listen={arguments.listen}", "--", *arguments.command]
    return [*line, arguments.main]


def read_argv(line: "Sequence[str]") -> Arguments:
    """What `argv` was given. Raises ValueError for anything that `argv` does not write."""
    options: dict[str, str] = {}
    rest = list(line)
    while rest and rest[0].startswith("--") and rest[0] != "--":
        name, _, value = rest.pop(0)[2:].partition("=")
        options[name] = value
    command = rest[1:] if rest and rest[0] == "--" else []
    if not command and (len(rest) != 1 or rest[0] == "--"):
        raise ValueError("expected the app, or -- and a command")
    found = Arguments(
        main="" if command else rest[0],
        command=command,
        listen=options.pop("listen", "port"),
        access_log=options.pop("access-log", None) is not None,
        start_timeout_ms=int(options.pop("start-timeout-ms", "30000")),
        drain_timeout_ms=int(options.pop("drain-timeout-ms", "30000")),
        orphan_timeout_ms=int(options.pop("orphan-timeout-ms", "0")),
    )
    if options or found.listen not in ("fd", "port"):
        raise ValueError(f"unknown option: {next(iter(options), found.listen)}")
    return found
