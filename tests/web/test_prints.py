"""What an app prints when there is nowhere to print to."""

from __future__ import annotations

import os
import subprocess
import sys

PRINTS = """
import logging, os, sys
from tako.web import prints
prints.listen()
logging.basicConfig(stream=sys.stdout)
full = os.open("/dev/full", os.O_WRONLY)
kept = os.dup(1)
print("before")
os.dup2(full, 1)
print("one\\ntwo")
print("three", flush=True)
sys.stdout.writelines(["four\\n", "five\\n"])
logging.error("six")
os.dup2(kept, 1)
print("after")
"""


def test_on_a_full_disk_lines_are_lost_and_counted_and_nothing_raises() -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=False, env=env)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "before\n6 lines could not be written: the disk was full\nafter\n"


def test_any_other_failure_is_the_apps_to_know() -> None:
    program = "from tako.web import prints; import os; prints.listen(); os.close(1); print('x')"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)

    assert "Bad file descriptor" in done.stderr
