"""What goes over fd 4 between the daemon and a web instance: JSON lines, both directions. SPEC.md section 4."""

TYPE_CHECKING = False
if TYPE_CHECKING:
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

        do: Literal["serve", "pause", "drain", "adopt"]
        timeout_s: NotRequired[float]


CONTROL_FD = 4
LISTENER_FD = 5
