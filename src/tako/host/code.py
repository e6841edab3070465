"""The code on disk: which files declare which workflows, and whether it is still the code that workers were told of.

An enqueue looks itself (`look`), so its answer is never about the previous code even when the watcher has not told yet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tako.discovery import fingerprint
from tako.discovery import scan as scanning


class Code:
    """The code of one app. `on_change` hears which files differ, whenever code, lock file or environment do."""

    def __init__(self, root: Path, *, on_change: Callable[[list[str]], None]) -> None:
        self.root = root
        self._on_change = on_change
        self._python: Path | None = None
        self.scan = scanning.Scan()
        self._fingerprint: fingerprint.Fingerprint | None = None

    def start(self, *, python: str) -> None:
        """Take what is on disk as the current code; `python` is the interpreter that runs it."""
        self._python = Path(python)
        self.scan = scanning.scan(self.root)
        self._fingerprint = fingerprint.take(self.root, python=self._python)

    def look(self) -> None:
        """Notice a changed workflow file now: a stat a file."""
        if not self.scan.is_current(self.root):
            self.changed()

    def changed(self, *, python: str | None = None) -> list[str]:
        """Something was saved: scan again; the files that really differ, "environment" among them. [] if none."""
        if python is not None:
            self._python = Path(python)
        before = self._fingerprint
        self.scan = scanning.scan(self.root, self.scan)
        self._fingerprint = fingerprint.take(self.root, python=self._python, previous=before)
        changed = self._fingerprint.changed_since(before) if before is not None else []
        if changed:
            self._on_change(changed)
        return changed

    def is_settled(self, *, now_ms: int) -> bool:
        """Whether no file was saved in the last two seconds.

        Python takes a cached module for current when its source has the same size and the same modification time *in
        whole seconds*. A typo that is mended within the second, letters swapped back, would be executed again and
        again. So processes that start right after a save must not leave caches behind.
        """
        stamps = self._fingerprint.stamps.values() if self._fingerprint else ()
        newest_ms = max((mtime_ns // 1_000_000 for mtime_ns, _ in stamps), default=0)
        return not now_ms - 2_000 < newest_ms <= now_ms + 2_000

    @property
    def digest(self) -> str:
        """Names the current code; the same after a restart if nothing was changed."""
        return self._fingerprint.digest if self._fingerprint else ""

    def names_by_group(self) -> dict[str, set[str]]:
        """What the files seem to declare, aliases included."""
        found: dict[str, set[str]] = {group: set() for group in self.scan.groups}
        for file in self.scan.files:
            for declaration in file.declarations:
                found.setdefault(declaration.group, set()).update({declaration.name, *declaration.aliases})
        return found
