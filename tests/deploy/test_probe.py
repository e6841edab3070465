"""What a machine tells, and why it cannot be a server."""

from __future__ import annotations

import subprocess

import pytest

from tako.deploy import probe
from tako.deploy.payload import Platform

GOOD = """os=Debian GNU/Linux 12 (bookworm)
kernel=Linux
machine=x86_64
uid=0
libc=glibc 2.36
systemd=252
free_mb=12000
python=3.11 /usr/bin/python3
port_80=
port_443=
"""


def told(text: str) -> list[str]:
    return list(probe.problems(probe.parse(text), needs_ports=True))


def test_a_bare_debian_will_do() -> None:
    found = probe.parse(GOOD)

    assert told(GOOD) == []
    assert found.python == "/usr/bin/python3"
    assert found.tako is None


def test_an_old_python_is_left_alone_and_uv_brings_one() -> None:
    found = probe.parse(GOOD.replace("python=3.11", "python=3.9"))

    assert found.python is None
    assert found.python_version == "3.11"


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("kernel=Linux", "kernel=Darwin", "it runs Darwin"),
        ("machine=x86_64", "machine=riscv64", "its machine is riscv64"),
        ("uid=0", "uid=1000", "the login has no rights of root"),
        ("systemd=252", "", "systemd does not run it"),
        ("systemd=252", "systemd=241", "its systemd is 241"),
        ("free_mb=12000", "free_mb=90", "90 MB are free in /var"),
        ("uid=0", "uid=0\nmissing=tar", "it has no tar"),
        (
            "port_80=",
            'port_80=LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=812,fd=6))',
            "port 80 is held by nginx (pid 812)",
        ),
        ("port_443=", "port_443=LISTEN 0 511 *:443 *:*", "port 443 is held by another program"),
    ],
)
def test_each_problem_is_told(line: str, instead: str, problem: str) -> None:
    (found,) = told(GOOD.replace(line, instead))

    assert found.startswith(problem)


def test_the_script_runs_in_any_shell_and_tells_of_this_machine() -> None:
    done = subprocess.run(["sh", "-s"], input=probe.SCRIPT, capture_output=True, text=True, check=True)

    found = probe.parse(done.stdout)
    assert found.kernel == "Linux"
    assert found.free_mb > 0
    assert found.python is not None


@pytest.mark.parametrize("text", ["", "nonsense", "uid=\nfree_mb=\nsystemd=\npython=\npython=x y"])
def test_answers_that_make_no_sense_are_problems_and_no_crash(text: str) -> None:
    assert told(text)


def test_wheels_must_fit_the_c_library_of_the_server() -> None:
    glibc = Platform(machine="x86_64", libc="glibc 2.31").tags()
    assert glibc[0] == "manylinux_2_31_x86_64"
    assert "manylinux_2_34_x86_64" not in glibc
    assert Platform(machine="aarch64", libc="musl").tags() == ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64"]
