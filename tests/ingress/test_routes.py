"""The folder of the apps that run: a name belongs to one living process, and is free again when that ends, however."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tako.errors import TakoError
from tako.ingress import routes

PROGRAM = """
import signal, sys
from pathlib import Path
from tako.ingress import routes
routes.publish(Path(sys.argv[1]), "shop", socket=Path("/elsewhere.sock"), root=Path("/home/ann/shop"), port=8001)
print("there", flush=True)
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dev"


def publish(folder: Path, name: str = "shop") -> routes.Route:
    return routes.publish(folder, name, socket=folder / "app.sock", root=Path("/srv/shop"), port=8000)


def test_a_name_leads_to_its_socket_until_it_is_withdrawn(folder: Path) -> None:
    route = publish(folder)

    found = routes.find(folder, "shop")
    assert found is not None
    assert found.readlink() == folder / "app.sock"
    assert routes.running(folder) == [routes.Running("shop", "/srv/shop", os.getpid(), 8000)]

    route.withdraw()
    route.withdraw()
    assert routes.find(folder, "shop") is None
    assert routes.running(folder) == []
    publish(folder).withdraw()


def test_a_name_of_a_living_process_is_refused_and_of_a_killed_one_is_free(folder: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", PROGRAM, folder], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "there\n"

    with pytest.raises(routes.NameTaken, match=rf"belongs to the `tako dev` in /home/ann/shop \(pid {other.pid}\)"):
        publish(folder)

    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert routes.running(folder) == []
    publish(folder).withdraw()


@pytest.mark.parametrize("name", ["../up", "", ".", "..", "a/b", "A", "a\0b", ".lock", "é", "a" * 200])
def test_what_could_leave_the_folder_is_no_name(folder: Path, name: str) -> None:
    with pytest.raises(TakoError, match="cannot be the name of a route"):
        publish(folder, name)
    assert routes.find(folder, name) is None


def test_a_damaged_record_is_nobody(folder: Path) -> None:
    folder.mkdir()
    for content in (b"", b"{", b"[]", b'{"root": 1}', b"\xff"):
        (folder / "shop.lock").write_bytes(content)
        assert routes.running(folder) == []
