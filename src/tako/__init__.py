"""Tako: durable workflows whose workers scale to zero and fail loudly, and the app around them.

The front door is lazy (PEP 562): `import tako` loads this module only, and each name loads its file at first use.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers read this name as true; `typing` is not imported for it
if TYPE_CHECKING:
    from tako import contrib as contrib
    from tako import testing as testing
    from tako.errors import ConfigError as ConfigError
    from tako.errors import DefinitionError as DefinitionError
    from tako.errors import DuplicateRun as DuplicateRun
    from tako.errors import EngineRunning as EngineRunning
    from tako.errors import EnqueueError as EnqueueError
    from tako.errors import EnqueueUnknown as EnqueueUnknown
    from tako.errors import Fatal as Fatal
    from tako.errors import IllegalMove as IllegalMove
    from tako.errors import InvalidRequest as InvalidRequest
    from tako.errors import LeaseLost as LeaseLost
    from tako.errors import NoEngine as NoEngine
    from tako.errors import PayloadError as PayloadError
    from tako.errors import QueueFull as QueueFull
    from tako.errors import RunCancelled as RunCancelled
    from tako.errors import RunFailed as RunFailed
    from tako.errors import RunFinished as RunFinished
    from tako.errors import RunNotFound as RunNotFound
    from tako.errors import SignalTimeout as SignalTimeout
    from tako.errors import StepError as StepError
    from tako.errors import StepResultError as StepResultError
    from tako.errors import StoreDamaged as StoreDamaged
    from tako.errors import StoreUnavailable as StoreUnavailable
    from tako.errors import TakoError as TakoError
    from tako.errors import Unauthorized as Unauthorized
    from tako.errors import UnknownSignal as UnknownSignal
    from tako.errors import UnknownWorkflow as UnknownWorkflow
    from tako.errors import VersionMismatch as VersionMismatch
    from tako.errors import WorkerUnhealthy as WorkerUnhealthy
    from tako.sdk.context import AsyncContext as AsyncContext
    from tako.sdk.context import Context as Context
    from tako.sdk.current import current as current
    from tako.sdk.finding import aget_run as aget_run
    from tako.sdk.finding import aruns as aruns
    from tako.sdk.finding import get_run as get_run
    from tako.sdk.finding import runs as runs
    from tako.sdk.handles import Run as Run
    from tako.sdk.handles import Step as Step
    from tako.sdk.options import Cron as Cron
    from tako.sdk.options import Every as Every
    from tako.sdk.options import Rate as Rate
    from tako.sdk.options import Retry as Retry
    from tako.sdk.secrets import MissingSecret as MissingSecret
    from tako.sdk.secrets import secrets as secrets
    from tako.sdk.sending import aenqueue as aenqueue
    from tako.sdk.sending import enqueue as enqueue
    from tako.sdk.signals import Signal as Signal
    from tako.sdk.startup import on_start as on_start
    from tako.sdk.workflow import Workflow as Workflow
    from tako.sdk.workflow import workflow as workflow

_ERRORS = (
    "ConfigError", "DefinitionError", "DuplicateRun", "EngineRunning", "EnqueueError", "EnqueueUnknown", "Fatal",
    "IllegalMove", "InvalidRequest", "LeaseLost", "NoEngine", "PayloadError", "QueueFull", "RunCancelled", "RunFailed",
    "RunFinished", "RunNotFound", "SignalTimeout", "StepError", "StepResultError", "StoreDamaged", "StoreUnavailable",
    "TakoError", "Unauthorized", "UnknownSignal", "UnknownWorkflow", "VersionMismatch", "WorkerUnhealthy",
)  # fmt: skip

_HOME = {
    "AsyncContext": "tako.sdk.context",
    "Context": "tako.sdk.context",
    "Cron": "tako.sdk.options",
    "Every": "tako.sdk.options",
    "MissingSecret": "tako.sdk.secrets",
    "Rate": "tako.sdk.options",
    "Retry": "tako.sdk.options",
    "Run": "tako.sdk.handles",
    "Signal": "tako.sdk.signals",
    "Step": "tako.sdk.handles",
    "Workflow": "tako.sdk.workflow",
    "aenqueue": "tako.sdk.sending",
    "aget_run": "tako.sdk.finding",
    "aruns": "tako.sdk.finding",
    "current": "tako.sdk.current",
    "enqueue": "tako.sdk.sending",
    "get_run": "tako.sdk.finding",
    "on_start": "tako.sdk.startup",
    "runs": "tako.sdk.finding",
    "secrets": "tako.sdk.secrets",
    "workflow": "tako.sdk.workflow",
    **dict.fromkeys(_ERRORS, "tako.errors"),
}
# Packages that `tako.contrib.asgi` and the like reach without an import of their own.
_PACKAGES = ("contrib", "testing")

__all__ = [*_HOME, "__version__"]


if not TYPE_CHECKING:  # else a name that is misspelt would be one of unknown type, not an error

    def __getattr__(name: str) -> object:
        """Load a public name at its first use, and keep it: the next use does not come here."""
        home = _HOME.get(name)
        try:
            # Not importlib, which is a module more; __import__ with a list gives the module itself.
            if home is not None:
                found: object = getattr(__import__(home, fromlist=[name]), name)
                globals()[name] = found
                return found
            if name in _PACKAGES:
                return __import__(f"tako.{name}", fromlist=["*"])
        except ModuleNotFoundError as error:
            if error.name != f"tako.{name}":
                raise
        raise AttributeError(f"module 'tako' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
