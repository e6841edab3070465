"""What is run on a server: words, so that nothing that somebody typed is a shell's text."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from tako.deploy import remote, unreachable
from tako.deploy.servers import Server
from tako.deploy.unreachable import HostKeyChanged, NoRoot, Unreachable, failure

SERVER = Server(name="fra1", host="203.0.113.5", host_key="ssh-ed25519 AAAA", user="root")
VERSION = "0.1.0+abc"


def scripts() -> list[list[str]]:
    return [
        remote.prepare(), remote.place_tools(), remote.configure(VERSION), remote.write_settings(),
        remote.current_version(), remote.point(VERSION), remote.start("tako-server.service"),
        remote.tidy(VERSION), remote.facts(), remote.uninstall(with_data=True), remote.uninstall(with_data=False),
    ]  # fmt: skip


@pytest.mark.parametrize("argv", scripts(), ids=lambda argv: argv[2].split("\n")[1].strip()[:40])
def test_each_script_is_one_that_a_posix_shell_can_read(argv: list[str]) -> None:
    assert argv[:2] == ["sh", "-euc"]

    read = subprocess.run(["sh", "-n", "-c", argv[2]], capture_output=True, text=True, check=False)

    assert read.returncode == 0, read.stderr


def test_what_varies_is_an_argument_and_never_in_the_text() -> None:
    argv = remote.point("$(reboot)")

    assert "$(reboot)" not in argv[2]
    assert argv[-1] == "$(reboot)"


@pytest.mark.parametrize(
    ("user", "uid", "argv", "socket_mode", "runs"),
    [
        ("root", 1000, ["true"], 0o666, "true"),
        ("ann", 1000, ["true"], 0o666, "sudo -n true"),
        (None, 1000, ["true"], 0o666, "sudo -n true"),  # ssh's configuration says who logs in
        (None, 0, ["true"], 0o000, "true"),
        ("ann", 1000, remote.dial(), 0o000, "sudo -n tako-server dial-stdio"),
        ("ann", 1000, remote.dial(), 0o666, "tako-server dial-stdio"),  # the group `tako` may talk with the daemon
    ],
)
def test_who_is_not_root_asks_sudo_but_for_what_they_may_do_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str | None, uid: int, argv: list[str], socket_mode: int,
    runs: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(remote, "SOCKET", str(tmp_path / "tako.sock"))
    if socket_mode:
        (tmp_path / "tako.sock").touch()
    for name, script in {
        "id": f"echo {uid}",
        **dict.fromkeys(("sudo", "true", "tako-server"), 'echo "${0##*/}" "$@"'),
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    done = subprocess.run(
        remote.as_root(argv, user=user), env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    assert done.stdout == f"{runs}\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "sudo: unable to resolve host x: Name or service not known\nsudo: a password is required",
            "without a password",
        ),
        ("ann is not in the sudoers file.", "without a password"),
        ("sh: 1: exec: sudo: not found", "there is no sudo"),
    ],
)
def test_a_login_that_cannot_become_root_is_told_so_and_what_to_allow(said: str, message: str) -> None:
    error = failure(dataclasses.replace(SERVER, user="ann"), code=1, said=said)

    assert type(error) is NoRoot
    assert message in error.message
    assert "Log in as root" in error.cure
    assert error.is_final


@pytest.mark.parametrize(
    ("said", "kind", "message", "is_final"),
    [
        ("Host key verification failed.", HostKeyChanged, "shows another host key", True),
        ("ann@h: Permission denied (publickey).", Unreachable, "refuses the login", True),
        ("ssh: Could not resolve hostname x: Name or service", Unreachable, "no host of this name", True),
        ("ssh: connect to host h port 22: Connection refused", Unreachable, "refuses connections", False),
        ("ssh: connect to host h port 22: Connection timed out", Unreachable, "does not answer", False),
        ("ssh: connect to host h port 22: No route to host", Unreachable, "There is no way to", False),
        ("Timeout, server h not responding.", Unreachable, "broke: Timeout, server h", False),
        ("", Unreachable, "The connection to fra1 (root@203.0.113.5) broke.", False),
    ],
)
def test_why_ssh_failed_in_words_for_who_typed_the_command(
    said: str, kind: type[Unreachable], message: str, is_final: bool
) -> None:
    error = failure(SERVER, code=unreachable.SSH_FAILED, said=said)

    assert type(error) is kind
    assert message in error.message
    assert error.is_final is is_final
    assert error.cure


def test_a_machine_without_tako_is_told_how_it_gets_it() -> None:
    error = failure(SERVER, code=127, said="sh: 1: tako-server: not found")

    assert "has no tako-server" in error.message
    assert error.cure == "Install it: tako servers add root@203.0.113.5 --name fra1"
