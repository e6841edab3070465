"""Processes as `spawn` starts them: what they find, and what is said when they cannot be started."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from tako.supervisor import spawn
from tako.supervisor.exits import Exit

DEADLINE_S = 20


def request(
    folder: Path, code: str, *, envelope: bytes = b"{}", fds: dict[int, int] | None = None
) -> spawn.SpawnRequest:
    return spawn.SpawnRequest(
        argv=[sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"]},
        cwd=folder,
        envelope=envelope,
        spool=folder / "spool",
        fds=fds or {},
    )


def run(wanted: spawn.SpawnRequest) -> Exit:
    async def live() -> Exit:
        child = spawn.spawn(wanted)
        return await asyncio.wait_for(child.wait(), DEADLINE_S)

    return asyncio.run(live())


def open_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_child_runs_in_its_folder_with_its_environment_and_nothing_else(tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps([os.getcwd(), sorted(os.environ)]))"

    exit_ = run(request(tmp_path, code))

    folder, names = json.loads((tmp_path / "spool").read_text())
    assert exit_.code == 0
    assert folder == str(tmp_path)
    assert set(names) <= {"PATH", "LC_CTYPE"}  # Python itself adds the latter


def test_stdout_and_stderr_are_appended_to_the_spool_and_stdin_is_empty(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("before\n")

    run(request(tmp_path, "import sys; print(repr(sys.stdin.read()), flush=True); print('err', file=sys.stderr)"))

    assert (tmp_path / "spool").read_text() == "before\n''\nerr\n"


def test_a_child_leads_a_session_and_a_group_of_its_own(tmp_path: Path) -> None:
    run(request(tmp_path, "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0))"))

    assert (tmp_path / "spool").read_text() == "True\n"


def test_a_child_has_no_fd_but_those_it_was_given(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    os.close(writer)
    os.set_inheritable(reader, True)  # as one is that the daemon itself inherited

    run(request(tmp_path, "import os; print(os.listdir('/proc/self/fd')[:-1], os.read(4, 9))", fds={4: reader}))

    os.close(reader)
    assert (tmp_path / "spool").read_text() == "['0', '1', '2', '3', '4'] b'hello'\n"


def test_fds_reach_their_numbers_though_ours_have_each_others(tmp_path: Path) -> None:
    code = "import os; print(os.read(3, 9), os.read(4, 9), os.read(5, 9))"
    pipes = [os.pipe() for _ in range(2)]
    for (_, writer), text in zip(pipes, (b"four", b"five"), strict=True):
        os.write(writer, text)
        os.close(writer)
    kept = {number: os.dup(number) for number in (4, 5) if _is_open(number)}
    try:
        os.dup2(pipes[0][0], 5, inheritable=False)  # what the child is to find at 4 lies at 5 here, and the reverse
        os.dup2(pipes[1][0], 4, inheritable=False)
        exit_ = _run_in_thread_of_its_own(request(tmp_path, code, envelope=b"three", fds={4: 5, 5: 4}))
    finally:
        for number in (4, 5):
            os.dup2(kept[number], number, inheritable=False) if number in kept else os.close(number)
        for fd in (*kept.values(), *(reader for reader, _ in pipes)):
            os.close(fd)

    assert exit_ == 0
    assert (tmp_path / "spool").read_text() == "b'three' b'four' b'five'\n"


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _run_in_thread_of_its_own(wanted: spawn.SpawnRequest) -> int:
    # Without an event loop, whose own fds may be the numbers under test.
    pid = spawn.start(wanted)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("size", [2, 65_536, 65_537, 700_000, 1_048_576, 3_000_000])
def test_the_envelope_arrives_whole_whatever_its_size(tmp_path: Path, size: int) -> None:
    code = "import os; b = open(3, 'rb').read(); print(len(b), b == b'x' * len(b))"

    run(request(tmp_path, code, envelope=b"x" * size))

    assert (tmp_path / "spool").read_text() == f"{size} True\n"


@pytest.mark.parametrize("size", [100, 900_000, 3_000_000])
def test_a_child_that_never_reads_its_envelope_blocks_nobody(tmp_path: Path, size: int) -> None:
    exit_ = run(request(tmp_path, "pass", envelope=b"x" * size))

    assert exit_.code == 0


def test_a_large_envelope_is_sealed_against_its_reader(tmp_path: Path) -> None:
    code = "import os\ntry: os.write(3, b'y')\nexcept OSError as e: print(e.errno in (1, 9))"

    run(request(tmp_path, code, envelope=b"x" * 3_000_000))

    assert (tmp_path / "spool").read_text() == "True\n"


def test_signals_have_their_defaults_in_a_child_whatever_ours_are(tmp_path: Path) -> None:
    code = "import os; print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith(('SigBlk', 'SigIgn'))])"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        run(request(tmp_path, code))
    finally:
        signal.signal(signal.SIGUSR2, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    blocked, ignores = (int(text, 16) for text in (tmp_path / "spool").read_text().split())
    assert blocked == 0
    assert not ignores & (1 << signal.SIGUSR2 - 1)


def test_spawning_leaves_no_fd_open_here(tmp_path: Path) -> None:
    run(request(tmp_path, "pass"))
    before = open_fds()

    run(request(tmp_path, "pass", envelope=b"x" * 3_000_000))
    with pytest.raises(spawn.SpawnFailed):
        run(spawn.SpawnRequest(argv=["./nothing"], env={}, cwd=tmp_path, envelope=b"", spool=tmp_path / "spool"))

    assert open_fds() == before


# --- what is said when it cannot be started -------------------------------------------------------------------------


def failure(folder: Path, *argv: str, cwd: Path | None = None) -> str:
    wanted = spawn.SpawnRequest(
        argv=argv, env={"PATH": "/usr/bin"}, cwd=cwd or folder, envelope=b"", spool=folder / "spool"
    )
    with pytest.raises(spawn.SpawnFailed) as caught:
        run(wanted)
    return caught.value.words


def test_a_program_that_is_not_there_is_named_as_it_was_written(tmp_path: Path) -> None:
    assert failure(tmp_path, ".venv/bin/python", "-V") == "[Errno 2] No such file or directory: '.venv/bin/python'"
    assert failure(tmp_path, "no-such-program") == "[Errno 2] No such file or directory: 'no-such-program'"


def test_a_link_to_an_interpreter_that_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/opt/python3.10")

    assert failure(tmp_path, "./python") == (
        "[Errno 2] No such file or directory: './python' (it is a link to '/opt/python3.10', which is gone)"
    )


def test_a_script_whose_interpreter_is_gone_says_so(tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text("#!/opt/python3.10\n")
    script.chmod(0o755)

    assert failure(tmp_path, "./serve").endswith("but the interpreter that its first line names is not)")


def test_a_program_that_may_not_be_executed_says_so(tmp_path: Path) -> None:
    (tmp_path / "serve").write_text("")

    assert failure(tmp_path, "./serve") == "[Errno 13] Permission denied: './serve'"


def test_a_folder_that_is_gone_is_what_is_named(tmp_path: Path) -> None:
    assert failure(tmp_path, sys.executable, cwd=tmp_path / "gone") == (
        f"[Errno 2] No such file or directory: '{tmp_path}/gone'"
    )


def test_a_spool_that_cannot_be_opened_is_what_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")

    assert f"'{tmp_path}/spool'" in failure(tmp_path, sys.executable)
    assert not (tmp_path / "elsewhere").exists()


def test_no_fd_left_is_a_failure_to_spawn_not_a_crash(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = request(tmp_path, "pass")

    highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        try:
            with pytest.raises(spawn.SpawnFailed) as caught:
                spawn.start(wanted)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)

    assert "Too many open files" in caught.value.words
