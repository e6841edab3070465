"""From a bare process to a worker that can say HELLO: environment, fd 3, the files of its group, start-up hooks.

A worker boots whole or not at all. What goes wrong here is told by stderr and the exit code, which the supervisor
reads: an exception of the user's code is printed as Python prints it and exits 1; a fault that only new code or
configuration can mend is one sentence and exits 78; `sys.exit()` in a module exits with what it says. No thread is
started and no socket opened.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import time
from resource import RLIMIT_CORE, setrlimit

from tako import errors
from tako.protocol import env, envelope
from tako.worker import speech

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any, NoReturn

    from tako.protocol.messages import Registry
    from tako.sdk.workflow import Workflow

    Message = dict[str, Any]

FAILED_EXIT = 1
MISCONFIGURED_EXIT = 78


class Boot:
    """What a booted worker knows. `workflows` are those of its group, by name and by alias."""

    def __init__(self) -> None:
        settings = os.environ
        self.app = settings[env.APP_NAME]
        self.socket = settings[env.INTERNAL_SOCKET]
        self.release = settings.get(env.BUILD, "dev")
        self.group = settings.get(env.GROUP, "default")
        self.concurrency = int(settings.get(env.CONCURRENCY, "10"))
        self.idle_timeout_s = int(settings.get(env.IDLE_TIMEOUT_MS, "300000")) / 1000
        self.boot_timeout_s = int(settings.get(env.BOOT_TIMEOUT_MS, "30000")) / 1000
        self.drain_timeout_s = int(settings.get(env.DRAIN_TIMEOUT_MS, "30000")) / 1000
        self.worker_id = ""
        self.token = ""
        self.files: Sequence[str] = ()
        self.workflows: Mapping[str, Workflow[Any, Any]] = {}
        self.registry: Registry = {"group": self.group, "workflows": [], "files": []}
        self.is_async = False  # all of its handlers are

    def hello(self) -> Message:
        """The fields of `hello`, but for what is in flight."""
        return {
            "role": "worker",
            "worker_id": self.worker_id,
            "pid": os.getpid(),
            "group": self.group,
            "registry": self.registry,
        }

    def said_hello(self) -> None:
        """The boot is over: no stack is dumped any more."""
        faulthandler.cancel_dump_traceback_later()


def prepare() -> Boot:
    """Boot. Exits the process when that fails."""
    boot = Boot()
    faulthandler.enable()  # a crash in C tells its Python stack
    setrlimit(RLIMIT_CORE, (0, 0))  # secrets are in memory, and must not be in a core file
    # First of all, so that whatever hangs from here on is told with its line before the supervisor kills us.
    faulthandler.dump_traceback_later(_until_dump_s(boot.boot_timeout_s))
    # What is imported stays: collecting in between finds nothing, and later collections need not look at it.
    gc.disable()
    _enter_root()
    _name_process(boot.group)
    _read_envelope(boot)
    speech.listen()
    _set_up_django()
    _import_files(boot.files)
    _declare(boot)
    gc.freeze()
    gc.enable()
    return boot


def _until_dump_s(boot_timeout_s: float) -> float:
    """How long from now to nine tenths of the boot timeout, which began with the process: on a busy machine that is not
    just now."""
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - no pathlib here
            began_s = int(file.read().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        alive_s = time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
    except (OSError, AttributeError):
        alive_s = 0.0  # not Linux
    return max(0.01, 0.9 * boot_timeout_s - max(0.0, alive_s))


def _enter_root() -> None:
    """The app's root is the working directory and the first place that modules are looked for in."""
    # A spawner that cannot change the child's folder tells it here; the environment was cleared, so it is no shell's.
    root = os.environ.get("PWD")
    if root:
        os.chdir(root)
    root = os.getcwd()  # noqa: PTH109 - no pathlib here
    if sys.path and (sys.path[0] == "" or sys.path[0] == os.path.dirname(__file__)):  # noqa: PTH120
        sys.path[0] = root
    elif root not in sys.path[:1]:
        sys.path.insert(0, root)


def _name_process(group: str) -> None:
    try:
        fd = os.open("/proc/self/comm", os.O_WRONLY)
    except OSError:
        return  # not Linux, or no /proc: the name is a convenience
    try:
        os.write(fd, f"tako:{group}".encode()[:15])
    finally:
        os.close(fd)


def _read_envelope(boot: Boot) -> None:
    fd = int(os.environ.pop(envelope.ENVELOPE_FD_VARIABLE, envelope.ENVELOPE_FD))
    try:
        letter = envelope.read(fd)
    except (OSError, ValueError) as error:
        refuse(f"no envelope on fd {fd} ({error}); workers are started by `tako dev` or tako-server, not by hand")
    from tako.sdk import runtime

    runtime.receive(letter)
    from tako.worker import redaction

    redaction.use(letter["secrets"])
    boot.token = letter["token"]
    boot.worker_id = letter.get("worker_id", f"worker-{os.getpid()}")
    boot.files = letter.get("files", [])


def _set_up_django() -> None:
    """Before anything of a Django app is imported: its models cannot be, until this is done."""
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return
    try:
        __import__("django").setup()
    except Exception as error:
        fail(error)


def _import_files(files: Sequence[str]) -> None:
    for path in files:
        name = module_name(path)
        try:
            module = __import__(name, fromlist=["_"])
        except errors.DefinitionError as error:
            refuse(str(error))
        except Exception as error:
            fail(error)
        found = getattr(module, "__file__", None)
        if found is None or not _is_same_file(found, path):
            refuse(
                f"{path} could not be imported: {name} is {found or 'another module'}\n"
                "  Another module of that name comes first; rename the file."
            )


def module_name(path: str) -> str:
    """The dotted name of a file, so that the web app's `from workflows.mail import welcome` is the same module."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _is_same_file(found: str, path: str) -> bool:
    try:
        return os.path.samefile(found, path)  # noqa: PTH121
    except OSError:
        return False


def _declare(boot: Boot) -> None:
    """Gather what was imported: of its group only, since a file may declare workflows of several."""
    from tako.sdk import workflow

    found = [one for one in workflow.declared().values() if one.group == boot.group]
    if not found:
        where = ", ".join(boot.files) or "the app"
        refuse(f'no workflows: {where} declares none of group "{boot.group}"')
    try:
        told = [one.info() for one in found]
    except errors.DefinitionError as error:
        refuse(str(error))
    boot.workflows = {name: one for one in found for name in (one.name, *one.aliases)}
    boot.registry = {"group": boot.group, "workflows": told, "files": list(boot.files)}
    boot.is_async = all(one.is_async for one in found)


def run_start_hooks(finish: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    """Call what `@tako.on_start` decorated; `finish` waits for an async one. If one fails, the boot has failed."""
    from tako.sdk.startup import hooks

    try:
        for hook in hooks:
            started = hook()
            if hasattr(started, "__await__"):
                finish(started)
    except errors.DefinitionError as error:
        refuse(str(error))
    except Exception as error:
        fail(error)


def refuse(message: str) -> NoReturn:
    """Exit because of something that only new code or configuration can mend."""
    print(f"tako: {message}", file=sys.stderr, flush=True)  # noqa: T201
    leave(MISCONFIGURED_EXIT)


def fail(error: BaseException) -> NoReturn:
    """Exit because of an exception of the user's code, printed as Python prints it, from the user's first frame on."""
    from tako.worker import redaction, tracebacks

    error.__traceback__ = tracebacks.without_our_frames(error.__traceback__)
    if redaction.is_used():
        print(tracebacks.text(error), end="", file=sys.stderr, flush=True)  # noqa: T201
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    leave(FAILED_EXIT)


def leave(exit_code: int) -> NoReturn:
    """Exit as Python does: `atexit` runs, output is flushed."""
    raise SystemExit(exit_code)
