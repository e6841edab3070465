"""What a deploy says while it goes on: a line for each phase that is over, and the one that is under way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tako.cli.output import DIM, Output
from tako.deploy.leg import JobEnded, Told
from tako.deploy.rollout import NotSwitched, Result
from tako.errors import TakoError
from tako.logs.render import clean, clean_lines
from tako.protocol.management import DeployEvent, Phase

# What a phase is called while it lasts; those not here are too short to be worth a word.
DOING = {
    "stage": "Putting the files in place…",
    "build": "Building the environment…",
    "release": "Running the release command…",
    "gate": "Starting each group of workers once…",
    "boot": "Starting the app…",
    "health": "Asking the app how it is…",
    "held": "Ready; waiting for the other servers…",
    "watch": "Watching the new release…",
    "drain": "Letting the old release finish…",
    "workers": "Letting the old workers finish…",
}

# What is worth a line when it is over.
DONE = {
    "build": "Environment ready",
    "release": "Release command ran",
    "gate": "Each group of workers starts",
    "boot": "App started",
    "health": "App answers",
    "switch": "Live",
    "watch": "It holds out",
}
# What these print is shown as it comes; of other commands only what they said before they failed.
LAST_LINES = 40
SHOWN_OUTPUT = frozenset({"release"})


class Screen:
    """Narration of one or several servers. Say everything through it while it is used: it owns the last line."""

    def __init__(self, output: Output, servers: Sequence[str], *, skip: Collection[Phase] = ()) -> None:
        """`skip`: phases in which nothing is to be done."""
        self._output = output
        self._skip = skip
        self._is_several = len(servers) > 1
        self._width = max(map(len, servers), default=0)
        self._has_transient = False
        self._keeps_line = output.colour_err and not self._is_several  # a terminal that understands us

    def follow(self, tellings: Iterator[Told]) -> None:
        """Say what is told, until the end."""
        try:
            for told in tellings:
                self._show(told)
        finally:
            self._clear()

    def _show(self, told: Told) -> None:
        if told.event is not None:
            self._event(told.server, told.event)
        elif told.kind == "connecting":
            self._doing(told.server, f"Connecting to {told.server}…")
        elif told.kind == "connected":
            self._done(told.server, f"Connected to {told.server}", told.ms)
        elif told.kind == "uploading":
            arrived, total = map(int, told.text.split())
            so_far = f"{size(arrived)} of " if arrived else ""
            self._doing(told.server, f"Uploading {so_far}{size(total)}…")
        elif told.kind == "uploaded":
            count, sent = map(int, told.text.split())
            what = (
                f"Uploaded {count} {'file' if count == 1 else 'files'}, {size(sent)}"
                if count
                else "All files are there"
            )
            self._done(told.server, what, told.ms)
        elif told.kind == "secrets":
            self._done(told.server, f"Sent {told.text} secret{'' if told.text == '1' else 's'}")
        elif told.kind == "cut":
            self._clear()
            self._output.warn(f"{self._of(told.server)}{clean(told.text)} Trying again…")

    def _event(self, server: str, event: DeployEvent) -> None:
        kind, message = event["event"], event["message"]
        if event["phase"] in self._skip and kind != "output":
            return
        if kind == "begin" and event["phase"] in DOING:
            self._doing(server, DOING[event["phase"]])
        elif kind == "done" and event["phase"] in DONE:
            self._done(server, DONE[event["phase"]], event.get("ms", 0))
        elif kind == "note" and "code" in event:
            self._clear()
            self._output.warn("\n  ".join([f"{self._of(server)}{clean(message)}", clean(event.get("cure", ""))]))
        elif kind == "note" and message and event["phase"] != "switch":
            self._aside(server, f"· {message}")
        elif kind == "output" and event["phase"] in SHOWN_OUTPUT:
            self._aside(server, f"│ {message}")

    def _aside(self, server: str, text: str) -> None:
        self._clear()
        self._output.say(f"{self._of(server)}  {self._output.painted(clean(text), DIM)}")

    def _doing(self, server: str, text: str) -> None:
        if not self._keeps_line:
            if text.startswith("Connecting"):
                self._output.say(f"{self._of(server)}{text}")
            return
        self._clear()
        assert self._output.stderr is not None
        print(f"  {text}", end="", file=self._output.stderr, flush=True)
        self._has_transient = True

    def _done(self, server: str, text: str, ms: int = 0) -> None:
        self._clear()
        took = f" {self._output.painted(seconds(ms), DIM)}" if ms else ""
        tick = self._output.painted("✔", "32")
        self._output.say(f"{self._of(server)}{tick} {clean(text).rstrip('.')}{took}")

    def _of(self, server: str) -> str:
        return f"{server:<{self._width}}  " if self._is_several else ""

    def _clear(self) -> None:
        if self._has_transient:
            assert self._output.stderr is not None
            print("\r\x1b[K", end="", file=self._output.stderr, flush=True)
            self._has_transient = False


def fail(output: Output, results: Sequence[Result], *, verb: str) -> None:
    """Say for each server how it did not work, and what still stands."""
    for result in results:
        if result.error is None:
            output.done(f"{result.server}: the release serves.")
            continue
        output.fail(f"Not {verb} {result.server}: {_why(result.error)}", cure="\n".join(_more(result)))


def _why(error: Exception) -> str:
    text = error.message if isinstance(error, TakoError) else f"{type(error).__name__}: {error}"
    return "\n".join(clean_lines(text))


def _more(result: Result) -> Iterator[str]:
    error = result.error
    detail = error.detail if isinstance(error, TakoError) else {}
    said = error.message if isinstance(error, TakoError) else ""
    for name in ("traceback_tail", "lines"):
        found = detail.get(name)
        lines = found.splitlines() if isinstance(found, str) else found if isinstance(found, list) else []
        # What the message says already is not said again; but a traceback with holes in it could not be read.
        lines = [str(line) for line in lines]
        if name == "traceback_tail":
            while lines and lines[-1].strip() in said:
                lines.pop()
        else:
            lines = [line for line in lines if line.strip() not in said]
        yield from (f"  {clean(line)}" for line in lines[-LAST_LINES:])
        if lines:
            break
    if isinstance(error, JobEnded) and error.outcome == "rolled_back":
        yield f"It served for a moment; the previous release ({result.previous}) serves again."
    elif isinstance(error, JobEnded | NotSwitched) or not _may_be_live(error):
        yield (
            f"The previous release ({result.previous}) still serves."
            if result.previous
            else "Nothing serves there yet."
        )
    if isinstance(error, TakoError) and error.cure:
        yield from clean_lines(error.cure)


def _may_be_live(error: Exception | None) -> bool:
    from tako.deploy.unreachable import Unreachable

    return isinstance(error, Unreachable)


def size(count: int) -> str:
    """Bytes for people."""
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_each:
            return f"{count / bytes_each:.1f} {unit}"
    return f"{count} bytes"


def seconds(ms: int) -> str:
    """A time that people waited: 0.4s, 3.1s, 2m 5s."""
    if ms < 100_000:
        return f"{ms / 1000:.1f}s"
    return f"{ms // 60_000}m {ms // 1000 % 60}s"
