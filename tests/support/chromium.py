"""Debian's Chromium without a window, driven through its DevTools protocol: real clicks, real keys, real pixels."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 45.0
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--password-store=basic", "--remote-debugging-port=0",
)  # fmt: skip
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "/": 191}


class Chromium:
    """One browser process. A `with` starts and ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("chromium")
        assert program, "chromium is not installed; scripts/debian-packages names it"
        self._process = subprocess.Popen(
            [program, *ARGUMENTS, f"--user-data-dir={self.folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        told = self.folder / "DevToolsActivePort"
        _until(lambda: told.exists() and "\n" in told.read_text(), what="chromium tells its port")
        self.port = int(told.read_text().split("\n")[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)

    @contextmanager
    def page(
        self, *, width: int = 1280, height: int = 900, phone: bool = False, dark: bool = False, script: bool = True
    ) -> Iterator[Page]:
        """A tab of its own, with an empty history."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            found = json.load(answer)
        with connect(found["webSocketDebuggerUrl"], max_size=None) as socket:
            page = Page(socket)
            page.prepare(width=width, height=height, phone=phone, dark=dark, script=script)
            yield page
            page.call("Page.close")


class Page:
    """One tab. `complaints` are errors of scripts and of the console, `requests` all addresses that were asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0
        self._loads = 0
        self.is_deaf = False  # no script of the page runs, listeners included
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.documents: list[int] = []

    def prepare(self, *, width: int, height: int, phone: bool, dark: bool, script: bool) -> None:
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self.is_deaf = not script
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    # --- the protocol ---

    def call(self, method: str, **params: Any) -> Any:
        """One command, and its result; events that come meanwhile are noted."""
        self._last += 1
        mine = self._last
        self._socket.send(json.dumps({"id": mine, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == mine:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.responseReceived" and params["type"] == "Document":
            self.documents.append(params["response"]["status"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    # --- what a person does ---

    def goto(self, url: str) -> None:
        """Open an address, and wait until it is loaded."""
        with self.loading():
            self.call("Page.navigate", url=url)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """What is done inside loads a page: wait for it."""
        before = self._loads
        yield
        _until(lambda: self._loads > before or self._poll(before), what="the page is loaded")

    def _poll(self, before: int) -> bool:
        self.call("Browser.getVersion")  # lets the events in
        return self._loads > before

    def evaluate(self, expression: str) -> Any:
        """The value of an expression. Works without the page's own scripts, too."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait_for(self, expression: str, *, timeout_s: float = PATIENCE_S) -> Any:
        """Ask again until it is true; its value then."""
        return _until(lambda: self.evaluate(expression), what=expression, timeout_s=timeout_s, shown=self.text)

    def show(self) -> None:
        """Bring the tab to the front: pages that nobody sees listen to nothing."""
        self.call("Page.bringToFront")

    def text(self) -> str:
        """What can be read."""
        return str(self.evaluate("document.body.innerText"))

    def click(self, selector: str, *, text: str = "") -> None:
        """Press the mouse on the first visible element that fits, and has the text.

        A page that is alive may move it in between: what did not hit is tried again, as a person would.
        """
        for _ in range(5):
            place = self.wait_for(_FIND % (json.dumps(selector), json.dumps(text)))
            for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
            if self.is_deaf or self.evaluate("window.hit !== false"):
                return
        raise AssertionError(f"{selector} {text!r} did not stand still")

    def press(self, key: str) -> None:
        """A key, down and up."""
        fields = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"Enter": "\r", "/": "/"}.get(key)
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, as PNG; `whole`: down to the end of the page."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        path.write_bytes(base64.b64decode(found["data"]))


_FIND = """(() => {
  for (const one of document.querySelectorAll(%s)) {
    if (!one.checkVisibility() || !one.innerText.includes(%s)) continue;
    one.scrollIntoView({block: "center"});
    window.hit = false;
    one.addEventListener("click", () => { window.hit = true }, {capture: true, once: true});
    const box = one.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  }
  return null;
})()"""


def _until(
    look: Callable[[], Any], *, what: str, timeout_s: float = PATIENCE_S, shown: Callable[[], str] = lambda: ""
) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s\n{shown()}"
        time.sleep(0.03)
    return found
