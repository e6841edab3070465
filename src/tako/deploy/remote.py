"""What is run on a server, as arguments. `ssh.py` is the only one that runs it.

Pure: each function returns the words of one command. `sudo` is put in front for a login that is not root.
"""

from collections.abc import Sequence

SERVER = "tako-server"


def dial() -> list[str]:
    """Join stdin and stdout to the daemon's management socket."""
    return [SERVER, "dial-stdio"]


def as_root(argv: Sequence[str], *, user: str | None) -> list[str]:
    """The command with the rights of root."""
    return list(argv) if user in (None, "root") else ["sudo", "-n", *argv]
