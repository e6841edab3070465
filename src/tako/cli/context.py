"""What a command gets: the folder it was started in, its output, the clock, and the engine when it asks for it."""

from __future__ import annotations

import time
from pathlib import Path

from tako.cli.arguments import Where
from tako.cli.engine import Engine, find
from tako.cli.output import Output


class Context:
    """One invocation."""

    def __init__(self, *, folder: Path, output: Output) -> None:
        self.folder = folder
        self.output = output
        self.where: Where | None = None
        self._engine: Engine | None = None

    @classmethod
    def of_this_process(cls, output: Output) -> Context:
        """The invocation that this process is."""
        return cls(folder=Path.cwd(), output=output)

    def engine(self) -> Engine:
        """The engine of this folder or the nearest parent that has one; with `where`, that of the deployed app.

        Raises:
            NoEngine: none runs there.
            TakoError: the environment is on several servers and none was named, or its server is out of reach.
        """
        if self._engine is None and self.where is not None:
            from tako.cli import deployed

            self._engine = deployed.engine(self, self.where)
        elif self._engine is None:
            self._engine = Engine(find(self.folder))
        return self._engine

    def app_folder(self) -> Path:
        """The folder of the app we are in: the nearest with `tako.toml`, `.tako` or `workflows`, else this one."""
        for folder in (self.folder, *self.folder.parents):
            if any((folder / name).exists() for name in ("tako.toml", ".tako", "workflows")):
                return folder
        return self.folder

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def close(self) -> None:
        """Let go of the engine. Twice is harmless."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
