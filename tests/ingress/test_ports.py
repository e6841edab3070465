"""Ports of loopback are taken, and who holds one that is taken is named."""

import os
import socket
import subprocess
import sys

import pytest

from tako.errors import TakoError
from tako.ingress import ports


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_a_port_is_listened_on_at_loopback_only() -> None:
    found = ports.listen(0)

    assert {sock.getsockname()[0] for sock in found} <= {"127.0.0.1", "::1"}
    assert len({sock.getsockname()[1] for sock in found}) == 1
    close(found)


def test_a_port_that_is_taken_is_an_error_that_names_the_holder() -> None:
    program = (
        "import socket, signal; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); signal.pause()"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    port = int(other.stdout.readline())

    with pytest.raises(ports.PortTaken) as raised:
        ports.listen(port)

    other.kill()
    other.wait()
    other.stdout.close()
    assert raised.value.message.startswith(f"Port {port} is taken by `{sys.executable} -c import socket, signal;")
    assert raised.value.message.endswith(f"(pid {other.pid}).")
    assert raised.value.cure == f"Stop it (kill {other.pid}), or choose another port."


def test_the_next_free_port_is_found() -> None:
    first = ports.listen(0)
    port = first[0].getsockname()[1]

    second = ports.listen_on_free(port, count=50)

    assert port < second[0].getsockname()[1] < port + 50
    with pytest.raises(ports.PortTaken):
        ports.listen_on_free(port, count=1)
    close(first + second)


def test_a_program_at_the_other_localhost_is_found_too() -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(ports.PortTaken, match=rf"pid {os.getpid()}"):
            ports.listen(port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_an_error(port: int) -> None:
    with pytest.raises(TakoError, match="is not a port"):
        ports.listen(port)


def test_a_port_that_nobody_holds_has_no_holder() -> None:
    found = ports.listen(0)
    port = found[0].getsockname()[1]
    close(found)

    assert ports.holder_of(port) is None
