from __future__ import annotations

import importlib
import math
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cli import Cli
from tests.support.fake_engine import FakeEngine, run_info

from tako.cli import arguments, examples
from tako.cli import main as cli_main

TAKO = str(Path(sys.executable).with_name("tako"))


def shortest(*argv: str, cwd: Path, wanted_s: float) -> float:
    """The least processor time of some runs: how long the command takes when nobody else uses the machine."""
    times = [math.inf]
    while len(times) < 30 and times[-1] >= wanted_s:
        process = subprocess.Popen([TAKO, *argv], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        times.append(used.ru_utime + used.ru_stime)
    return min(times)


def test_help_names_every_command_and_goes_to_stdout(cli: Cli) -> None:
    said = cli("--help")

    assert said.code == 0
    assert all(f"  {name} " in said.out for name in cli_main.COMMANDS)
    assert said.err == ""


def test_no_command_at_all_is_wrong_usage_and_shows_the_help(cli: Cli) -> None:
    said = cli()

    assert (said.code, said.out) == (2, "")
    assert "Usage: tako COMMAND" in said.err


@pytest.mark.parametrize("name", list(cli_main.COMMANDS))
def test_each_command_of_the_table_has_a_module_and_its_own_help(cli: Cli, name: str) -> None:
    module = importlib.import_module(f"tako.cli.commands.{name}")
    said = cli(name, "--help")

    assert callable(module.run)
    assert said.code == 0
    assert "--json" in said.out


def test_an_unknown_command_suggests_the_nearest(cli: Cli) -> None:
    said = cli("enqeue", "x")

    assert said.code == 2
    assert "There is no command 'enqeue'." in said.err
    assert "Did you mean `enqueue`?" in said.err


def test_an_unknown_option_is_named_and_nothing_is_done(cli: Cli) -> None:
    said = cli("runs", "list", "--wrokflow", "x")

    assert said.code == 2
    assert "--wrokflow is not known here. Did you mean --workflow?" in said.err
    assert said.out == ""


def test_what_is_missing_or_not_among_the_choices_is_told_in_words(cli: Cli) -> None:
    assert "tako enqueue: NAME is missing." in cli("enqueue").err
    assert "'ste' is not known here. Did you mean set?" in cli("secrets", "ste").err
    assert "'loud' is not known here. There are: debug, info, warning, error." in cli("logs", "--level", "loud").err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["runs"], "tako runs: COMMAND is missing. There are: list, show, retry, cancel, signal, ack, tail."),
        (["maintenance"], "tako maintenance: STATE is missing. There are: on, off."),
        (["logs", "-n", "few"], "tako logs: --limit: expected a whole number, found 'few'"),
        (["logs", "-n", "0"], "tako logs: --limit: expected a whole number from 1 on, found '0'"),
        (["bench", "--rounds", "0"], "tako bench: --rounds: expected a whole number from 1 on, found '0'"),
        (["enqueue", "greet", "--priority", "high"], "--priority: expected a whole number, found 'high'"),
        (["enqueue", "greet", "--delay", "1m", "--at", "x"], "tako enqueue: --at and --delay exclude each other."),
        (["runs", "list", "--since"], "tako runs list: --since needs a value."),
        (["dev", "--port", "0"], "tako dev: --port: expected a port from 1 to 65535, found '0'"),
    ],
)
def test_a_value_that_will_not_do_is_told_with_what_would(cli: Cli, words: list[str], told: str) -> None:
    said = cli(*words)

    assert said.code == 2
    assert told in said.err


def test_every_command_that_has_more_than_one_form_shows_examples_that_it_understands(cli: Cli) -> None:
    assert {name.partition(" ")[0] for name in examples.EXAMPLES} >= cli_main.COMMANDS.keys() - {
        "init",
        "doctor",
        "version",
    }

    for name, lines in examples.EXAMPLES.items():
        said = cli(*name.split(), "--help")
        assert [line for line in lines if f"  {line}\n" not in said.out] == [], name
        for line in lines:
            command, *words = shlex.split(line.partition(" < ")[0])[1:]
            module = arguments.load(command)
            parser = arguments.Parser(prog=f"tako {command}")
            module.configure(parser)
            parser.add_argument("--json", action="store_true")
            if command in cli_main.OF_ANY_ENGINE:
                arguments.add_where(parser)
            parser.parse_args(getattr(module, "prepare", list)(words))


def test_options_are_never_abbreviated(cli: Cli) -> None:
    assert cli("runs", "list", "--work", "x").code == 2


def test_a_failure_with_json_is_one_document_too(cli: Cli) -> None:
    said = cli("status", "--json")

    assert said.code == 1
    assert said.json == {
        "error": {
            "code": "no_engine",
            "message": "No engine runs in this folder.",
            "cure": "Start it with `tako dev`.",
            "detail": {},
        }
    }


def test_without_a_terminal_there_is_no_colour(cli: Cli, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [run_info(status="dead", error="E")], "next": None}

    said = cli("runs", "list")

    assert "\x1b" not in said.out + said.err


def test_help_is_there_within_100_ms(tmp_path: Path) -> None:
    assert shortest("--help", cwd=tmp_path, wanted_s=0.1) < 0.1


def test_a_list_of_runs_is_there_within_200_ms(tmp_path: Path, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [run_info(n) for n in range(50)], "next": None}

    assert shortest("runs", "list", cwd=tmp_path, wanted_s=0.2) < 0.2


def test_one_command_imports_no_other(tmp_path: Path) -> None:
    code = (
        "import sys; from tako.cli.main import main; main(['runs', 'list']);"
        "print(*[name for name in sys.modules if name.startswith('tako.cli.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["tako.cli.commands.runs"]


def test_a_reader_that_leaves_ends_the_command_without_a_word(tmp_path: Path, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [run_info(n) for n in range(3000)], "next": None}
    read, write = os.pipe()
    process = subprocess.Popen([TAKO, "runs", "list"], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.read(read, 10)
    os.close(read)

    _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, b"")


def test_ctrl_c_exits_130_and_shows_no_traceback(tmp_path: Path, engine: FakeEngine) -> None:
    process = subprocess.Popen(
        [TAKO, "runs", "tail"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    engine.wait_asked("subscribe")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in out + err


def test_python_m_tako_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tako", "--help"], cwd=tmp_path, capture_output=True, check=True)

    assert b"Usage: tako COMMAND" in done.stdout


def test_output_that_cannot_be_written_is_a_failure_and_no_traceback(tmp_path: Path, engine: FakeEngine) -> None:
    engine.answers["list_runs"] = {"runs": [run_info()], "next": None}

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [TAKO, "runs", "list"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 1
    assert done.stderr == "✘ tako runs was stopped by the system: No space left on device.\n"


def test_without_any_stream_a_command_still_does_its_work(tmp_path: Path, engine: FakeEngine) -> None:
    engine.answers["ack"] = {"count": 1}

    done = subprocess.run(["/bin/sh", "-c", f"exec {TAKO} runs ack --all <&- >&- 2>&-"], cwd=tmp_path, check=False)

    assert done.returncode == 0
    assert engine.asked("ack") == [{"all": True}]
