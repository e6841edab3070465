"""Run `[build] run` in the app's folder, before its files are looked at."""

import collections
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tako.config.model import Config
from tako.errors import TakoError

LAST_LINES = 20


def run(config: Config, environment: str, *, environ: Mapping[str, str], line: Callable[[str], None]) -> None:
    """Run it, with the app's interpreter first in PATH and ENV set; each line it prints goes to `line`.

    Raises:
        TakoError: it failed; nothing was uploaded.
    """
    assert config.build.run is not None
    path = os.pathsep.join([str(Path(config.python).parent), environ.get("PATH", os.defpath)])
    process = subprocess.Popen(
        ["sh", "-c", config.build.run], cwd=config.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        env={**environ, **config.variables(environment), "ENV": environment, "PATH": path},
    )  # fmt: skip
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    assert process.stdout is not None
    try:
        for text in process.stdout:
            last.append(text.rstrip("\n"))
            line(last[-1])
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        process.stdout.close()
    if code:
        said = "".join(f"\n  {text}" for text in last)
        raise TakoError(
            f"The build failed with exit code {code}: {config.build.run}{said}",
            cure="Nothing was uploaded. Mend it, then deploy again.",
        )
