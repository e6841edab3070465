"""Why a server cannot be reached, in words for who typed the command: what ssh's last line means."""

from tako.deploy import remote
from tako.deploy.servers import Server
from tako.errors import TakoError

# ssh's own failures; everything else is the exit code of what ran there.
SSH_FAILED = 255
NOT_FOUND = 127


class Unreachable(TakoError):
    """No SSH connection to the server, or it broke. `is_final`: trying again would end the same way."""

    code = "unreachable"

    def __init__(self, message: str, *, cure: str = "", is_final: bool = False) -> None:
        super().__init__(message, cure=cure)
        self.is_final = is_final


class NoRoot(Unreachable):
    """The login has not the rights of root, and cannot have them without a password."""

    code = "no_root"

    def __init__(self, message: str, *, cure: str) -> None:
        super().__init__(message, cure=cure, is_final=True)


class NoServer(TakoError):
    """The machine answers, and Tako is not installed on it."""

    code = "no_server"


class HostKeyChanged(Unreachable):
    """The server does not show the key that was pinned. It is not talked to."""

    code = "host_key"

    def __init__(self, server: Server) -> None:
        super().__init__(
            f"{server.name} ({server.address}) shows another host key than the one that was pinned. Nothing was sent.",
            cure="If the machine was installed anew, pin its new key: "
            f"tako servers add {server.address} --name {server.name} --replace\n"
            "If not, somebody may stand in between: do not go on.",
            is_final=True,
        )


def failure(server: Server, *, code: int, said: str) -> TakoError:
    """What ssh's or the remote command's last words mean, in ours."""
    last = said.strip().splitlines()[-1].strip() if said.strip() else ""
    at = f"{server.name} ({server.address})"
    if (rootless := no_root(server, said=said)) is not None:
        return rootless
    if code == NOT_FOUND or "command not found" in said:
        return NoServer(
            f"{at} has no {remote.SERVER}.", cure=f"Install it: tako servers add {server.address} --name {server.name}"
        )
    if code != SSH_FAILED:
        first = said.strip().partition("\n")[0].strip()  # the reason; what follows is advice for who sits there
        return Unreachable(f"{at}: {first or f'exit code {code}'}", cure=f"See `tako servers status {server.name}`.")
    if "Host key verification failed" in said or "IDENTIFICATION HAS CHANGED" in said:
        return HostKeyChanged(server)
    for sign, (why, cure, is_final) in _MEANINGS.items():
        if sign in said:
            return Unreachable(why.format(at=at), cure=cure.format(server=server), is_final=is_final)
    return Unreachable(
        f"The connection to {at} broke{f': {last}' if last else ''}.", cure="Look with `ssh`, then try again."
    )


def no_root(server: Server, *, said: str) -> TakoError | None:
    """The error for a login that cannot become root, if these are the words of sudo, or of a shell without one."""
    at = f"{server.name} ({server.address})"
    rule = "NAME ALL=(root) NOPASSWD: ALL"
    if "sudo: not found" in said or "sudo: command not found" in said:
        return NoRoot(f"{at}: the login is not root, and there is no sudo.", cure="Log in as root.")
    if not any(sign in said for sign in _SUDO_REFUSES):
        return None
    user = server.user or "the login"
    return NoRoot(
        f"{at}: sudo lets {user} do nothing without a password, and Tako never asks for one.",
        cure="Log in as root, or allow it on the server, with `sudo visudo -f /etc/sudoers.d/tako` and the line:\n"
        + rule.replace("NAME", server.user or "NAME"),
    )


def no_ssh() -> TakoError:
    """There is no ssh on this machine."""
    return TakoError("This machine has no `ssh`.", cure="On Debian: sudo apt-get install openssh-client")


def alias_of(server: Server) -> str:
    """Under what name its host key is pinned, whatever the address."""
    return f"tako-{server.name}"


_SUDO_REFUSES = (
    "sudo: a password is required", "sudo: a terminal is required", "sudo: sorry, you must have a tty",
    "is not in the sudoers file", "is not allowed to execute",
)  # fmt: skip
_MEANINGS = {
    "Permission denied": (
        "{at} refuses the login.",
        "Does `ssh {server.address}` work without a password? A key with a passphrase needs `ssh-add` first; "
        "another key is named with --identity.",
        True,
    ),
    "Could not resolve hostname": ("{at}: there is no host of this name.", "Check the address.", True),
    "Connection refused": (
        "{at} refuses connections: nothing listens on its SSH port.", "Is it up, and is the port right?", False,
    ),
    "timed out": ("{at} does not answer.", "Is it up, and does its firewall let SSH in?", False),
    "No route to host": ("There is no way to {at}.", "Check the network and the address.", False),
    "Network is unreachable": ("There is no way to {at}.", "Check the network of this machine.", False),
}  # fmt: skip
