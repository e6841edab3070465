"""What is run on a server, as arguments. `ssh.py` is the only one that runs it.

Pure: each function returns the words of one command, and nothing that a user typed is pasted into a shell's text.
`sudo` is put in front for a login that is not root.
"""

from collections.abc import Sequence

SERVER = "tako-server"
SOCKET = "/run/tako/tako.sock"
ROOT = "/opt/tako"
INCOMING = f"{ROOT}/incoming"
UNITS = ("tako-server.service", "tako-caddy.service", "tako-apps.slice")

Argv = list[str]


def as_root(argv: Sequence[str], *, user: str | None) -> Argv:
    """The command with the rights of root: with sudo, unless the login has them already.

    Who may write to the daemon's socket (the group `tako`) needs no more than that to talk with the daemon. `user`
    None: ssh's own configuration says who logs in, so only the server knows.
    """
    if user == "root":
        return list(argv)
    enough = f"[ -w {SOCKET} ]" if argv[0] == SERVER else "false"
    return ["sh", "-c", f'if [ "$(id -u)" = 0 ] || {enough}; then exec "$@"; else exec sudo -n "$@"; fi', "sh", *argv]


def dial() -> Argv:
    """Join stdin and stdout to the daemon's management socket."""
    return [SERVER, "dial-stdio"]


def one_off(wanted: str) -> Argv:
    """Have the daemon run a command of an app, with the stdin, stdout and stderr of this one."""
    return [SERVER, "run", wanted]


def script() -> Argv:
    """Run the shell script that comes on stdin."""
    return ["sh", "-s"]


# --- installing ---


def prepare() -> Argv:
    """Groups, users and folders; nothing that is there already is changed."""
    return _sh(
        """
        getent group tako >/dev/null || groupadd --system tako
        getent passwd tako-caddy >/dev/null || useradd --system --user-group --no-create-home \\
            --home-dir /var/lib/tako-caddy --shell /usr/sbin/nologin tako-caddy
        install -d -m 0755 /opt/tako /opt/tako/bin /opt/tako/server /opt/tako/wheels /opt/tako/caddy /etc/tako
        install -d -m 0755 /var/lib/tako
        rm -rf /opt/tako/incoming
        install -d -m 0700 /opt/tako/incoming
        """
    )


def present() -> Argv:
    """The hashes of what was sent before and needs not be sent again: `HASH  PATH` lines."""
    return _sh("sha256sum /opt/tako/bin/uv /opt/tako/wheels/*.whl 2>/dev/null || true")


def unpack() -> Argv:
    """Unpack the archive that comes on stdin."""
    return ["tar", "-xzf", "-", "-C", INCOMING, "--no-same-owner"]


def place_tools() -> Argv:
    """uv and wheels to where they stay. What runs is replaced by rename, and goes on with the old file."""
    return _sh(
        """
        cd /opt/tako/incoming
        [ ! -e uv ] || mv -f uv /opt/tako/bin/uv
        for wheel in wheels/*.whl; do
            [ ! -e "$wheel" ] || mv -f "$wheel" /opt/tako/wheels/
        done
        """
    )


def environment(version: str, *, python: str | None) -> Argv:
    """An empty environment for this version; with a Python of uv's when the system has none."""
    find = ["--python", python or "3.11", "--python-preference", "only-system" if python else "managed"]
    return [*_uv(), "venv", "--quiet", "--clear", *find, venv(version)]


def install_dependencies(version: str, *, offline: bool) -> Argv:
    """The pinned packages. What is downloaded must have its hash."""
    return [*_pip(version, offline=offline), "--require-hashes", "-r", f"{INCOMING}/requirements.txt"]


def install_ours(version: str, wheel: str) -> Argv:
    """Our own wheel, which we have just sent."""
    return [*_pip(version, offline=True), "--no-deps", f"{ROOT}/wheels/{wheel}"]


def venv(version: str) -> str:
    """Where the environment of a version lies."""
    return f"{ROOT}/server/{version}/venv"


def configure(version: str) -> Argv:
    """Caddy's configuration, which Caddy itself looks at first. Says "changed" when Caddy must start anew for it."""
    python, caddy = f"{venv(version)}/bin/python", f"{venv(version)}/bin/caddy"
    return _sh(
        """
        [ -e /etc/tako/server.toml ] || : > /etc/tako/server.toml
        "$1" -m tako.server.caddy /etc/tako/server.toml > /etc/tako/.caddy.json
        "$2" validate --config /etc/tako/.caddy.json >/dev/null 2>/opt/tako/incoming/said \\
            || { tail -n 1 /opt/tako/incoming/said >&2; exit 1; }
        if ! cmp -s "$2" /opt/tako/caddy/current || ! cmp -s /etc/tako/.caddy.json /etc/tako/caddy.json; then
            echo changed
        fi
        mv -f /etc/tako/.caddy.json /etc/tako/caddy.json
        if ! [ "$2" -ef /opt/tako/caddy/current ]; then
            rm -f /opt/tako/caddy/next
            ln "$2" /opt/tako/caddy/next 2>/dev/null || cp "$2" /opt/tako/caddy/next
            mv -f /opt/tako/caddy/next /opt/tako/caddy/current
        fi
        rm -rf "/opt/tako/server/$3/units"
        mv /opt/tako/incoming/units "/opt/tako/server/$3/units"
        """,
        python,
        caddy,
        version,
    )


def write_settings() -> Argv:
    """/etc/tako/server.toml from stdin, unless there is one."""
    return _sh("[ -s /etc/tako/server.toml ] || cat > /etc/tako/server.toml")


def current_version() -> Argv:
    """Print which version `current` leads to; nothing without one."""
    return _sh("readlink /opt/tako/server/current || true")


def point(version: str) -> Argv:
    """Let this version, with its units, be the current one for whoever starts from now on."""
    return _sh(
        """
        ln -sfn "$1" /opt/tako/server/.current
        mv -fT /opt/tako/server/.current /opt/tako/server/current
        for name in tako-server tako; do
            ln -sfn "/opt/tako/server/current/venv/bin/$name" "/opt/tako/bin/$name"
            ln -sfn "/opt/tako/bin/$name" "/usr/local/bin/$name"
        done
        cp -f "/opt/tako/server/$1/units/"* /etc/systemd/system/
        systemctl daemon-reload
        """,
        version,
    )


def start(unit: str) -> Argv:
    """Start or restart a unit, also at boot; ends when it has said that it is ready, or has failed."""
    return _sh('systemctl enable --quiet "$1" && systemctl restart "$1"', unit)


def last_words(unit: str) -> Argv:
    """The last lines that a unit said."""
    return ["journalctl", "-u", unit, "-n", "12", "-o", "cat", "--no-pager"]


def tidy(*keep: str) -> Argv:
    """Remove what an installation leaves, and versions other than these."""
    return _sh(
        """
        rm -rf /opt/tako/incoming
        for folder in /opt/tako/server/*/; do
            name=$(basename "$folder")
            for kept in current "$@"; do [ "$name" = "$kept" ] && continue 2; done
            rm -rf "$folder"
        done
        """,
        *keep,
    )


# --- looking and removing ---


def facts() -> Argv:
    """What `tako servers status` shows beside what the daemon tells."""
    return _sh(
        """
        echo "server $(systemctl is-active tako-server || true)"
        echo "caddy $(systemctl is-active tako-caddy || true)"
        echo "since $(systemctl show -p ActiveEnterTimestamp --value tako-server)"
        echo "disk $(df -Pm /var/lib/tako | tail -n 1 | awk '{print $4, $2}')"
        echo "memory $(awk '/^MemA/ {a=$2} /^MemTotal/ {t=$2} END {print int(a/1024), int(t/1024)}' /proc/meminfo)"
        echo "load $(cut -d' ' -f1-3 /proc/loadavg) $(nproc)"
        """
    )


def journal(*, lines: int, follow: bool) -> Argv:
    """What the daemon and Caddy said."""
    words = ["journalctl", "-u", "tako-server", "-u", "tako-caddy", "-n", str(lines), "-o", "short-iso", "--no-pager"]
    return [*words, "--follow"] if follow else words


def pack(folder: str) -> Argv:
    """A folder's content as an archive on stdout."""
    return ["tar", "-C", folder, "-czf", "-", "."]


def remove(folder: str) -> Argv:
    """Remove a folder."""
    return ["rm", "-rf", "--", folder]


def uninstall(*, with_data: bool) -> Argv:
    """Stop everything and remove what was installed."""
    return _sh(
        """
        systemctl disable --quiet --now tako-server.service tako-caddy.service 2>/dev/null || true
        systemctl stop tako-apps.slice 2>/dev/null || true
        rm -f /etc/systemd/system/tako-server.service /etc/systemd/system/tako-caddy.service
        rm -f /etc/systemd/system/tako-apps.slice /usr/local/bin/tako-server /usr/local/bin/tako
        systemctl daemon-reload
        rm -rf /opt/tako /run/tako /run/tako-caddy
        if [ "$1" = with-data ]; then
            rm -rf /var/lib/tako /var/lib/tako-caddy /var/log/tako-caddy /etc/tako
            getent passwd | cut -d: -f1 | grep '^tako-' | while read -r user; do userdel "$user"; done
            groupdel tako 2>/dev/null || true
        fi
        """,
        "with-data" if with_data else "keep-data",
    )


def _sh(text: str, *arguments: str) -> Argv:
    """A shell script with its arguments as "$1"…; it ends at the first command that fails."""
    lines = [line.removeprefix("        ") for line in text.strip("\n").splitlines()]
    # A login that is not root's has no sbin in its PATH.
    text = 'PATH="$PATH:/usr/sbin:/sbin"\n' + "\n".join(lines).strip()
    return ["sh", "-euc", text, "sh", *arguments]


def _uv() -> Argv:
    return ["env", f"UV_PYTHON_INSTALL_DIR={ROOT}/python", "UV_SYSTEM_CERTS=1", "UV_NO_PROGRESS=1", f"{ROOT}/bin/uv"]


def _pip(version: str, *, offline: bool) -> Argv:
    words = [*_uv(), "pip", "install", "--quiet", "--python", f"{venv(version)}/bin/python", "--compile-bytecode"]
    return [*words, "--offline", "--no-index", "--find-links", f"{ROOT}/wheels"] if offline else words
