"""How a process finds its engine, token and secrets: tried with real processes, as `tako run` starts them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.fake_engine import FakeEngine

LETTER = json.dumps({"token": "t0ken", "secrets": {"STRIPE_KEY": "sk_live_123"}, "storages": {}}).encode()
USE = """
import os, tako
run = tako.enqueue("send_email", {"pid": 1})
secret = tako.secrets["STRIPE_KEY"]
if os.fork() == 0:
    again = tako.enqueue("send_email", {"pid": 2})
    assert tako.secrets["STRIPE_KEY"] == secret
    os._exit(0 if again.id != run.id else 1)
assert os.waitpid(-1, 0)[1] == 0
print(run.id, secret, tako.current.app)
"""


def start(code: str, engine: FakeEngine, fd: int | None) -> subprocess.CompletedProcess[str]:
    """Run code as `tako run` does: the variables, and the envelope on fd 3."""
    environment = {
        "PATH": os.environ["PATH"], "TAKO_APP_NAME": engine.app, "TAKO_INTERNAL_SOCKET": str(engine.socket),
    }  # fmt: skip
    place = () if fd is None else (fd,)
    moved = f"import os; os.dup2({fd}, 3); os.set_inheritable(3, True);" if fd is not None else ""
    program = f"{moved}os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {code!r}])"
    return subprocess.run(
        [sys.executable, "-c", f"import os;{program}"], pass_fds=place, env=environment, capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip


def pipe_with(letter: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, letter)
    os.close(writing)
    return fcntl.fcntl(reading, fcntl.F_DUPFD, 20)


def test_a_command_finds_engine_token_and_secrets_also_after_a_fork(engine: FakeEngine) -> None:
    fd = pipe_with(LETTER)
    done = start(USE, engine, fd)
    os.close(fd)

    assert done.stderr == ""
    run_id, secret, app = done.stdout.split()
    assert (secret, app) == ("sk_live_123", "my-app")
    assert [message["runs"][0]["payload_json"] for message in engine.asked("enqueue_runs")] == [
        '{"pid":1}',
        '{"pid":2}',
    ]
    assert engine.asked("enqueue_runs")[0]["runs"][0]["id"] == run_id
    introduced = [message for message in engine.requests if "app" in message]
    assert [(message["token"], message["protocol"]) for message in introduced] == [("t0ken", 1), ("t0ken", 1)]


def test_an_envelope_in_a_memory_file_can_be_read_by_several(engine: FakeEngine) -> None:
    fd = fcntl.fcntl(os.memfd_create("envelope", 0), fcntl.F_DUPFD, 20)
    os.pwrite(fd, LETTER, 0)
    code = "import tako, os\npid = os.fork()\nassert tako.secrets['STRIPE_KEY']\nif pid: assert os.wait()[1] == 0"
    done = start(code, engine, fd)
    os.close(fd)

    assert (done.stderr, done.returncode) == ("", 0)


def test_what_lies_on_fd_3_and_is_no_envelope_is_left_alone(engine: FakeEngine) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"not ours")  # and it stays open: reading to its end would never end
    fd = fcntl.fcntl(reading, fcntl.F_DUPFD, 20)
    code = "import os, tako\ntako.enqueue('x', {})\nprint(tako.secrets.get('A', 'none'), os.read(3, 8).decode())"
    done = start(code, engine, fd)
    for each in (fd, reading, writing):
        os.close(each)

    assert done.stdout == "none not ours\n"


def test_only_one_of_the_two_variables_is_an_error_that_names_the_other() -> None:
    code = "import tako\ntry: tako.enqueue('x')\nexcept tako.NoEngine as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TAKO_APP_NAME": "a"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "TAKO_APP_NAME is set but TAKO_INTERNAL_SOCKET is not" in done.stdout


def test_what_the_spawner_builds_the_process_reads(tmp_path: Path) -> None:
    from tako.protocol import env, envelope

    built = env.build(
        inherited={"PATH": "/bin", "AWS_SECRET": "x", "LC_ALL": "C"}, variables={"LOG_LEVEL": "info"}, app="a",
        socket="/s", environment="staging", release="r1", data_dir="/d", worker={env.GROUP: "mail"},
    )  # fmt: skip
    found: Any = env.read(built)

    assert (found.app, found.socket, found.environment, found.release, found.data_dir) == (
        "a",
        "/s",
        "staging",
        "r1",
        "/d",
    )
    assert "AWS_SECRET" not in built
    assert built["LC_ALL"] == "C"
    assert envelope.ENVELOPE_FD == 3
