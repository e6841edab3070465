"""Makes bytes for a target until its time is up: by chance from seeds, or guided by coverage where atheris is there.

    python -m reliability.hostile.fuzz TARGET --seconds 60

What breaks a target is written to `corpus/TARGET/`, and stays there: every later run begins with it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 100_000

# What readers look for. Bytes that are near to right go deeper than bytes that are not.
WORDS = (
    b'{"app":"shop","command":"echo"}', b'{"a":', b"[", b"]", b"{", b"}", b'"', b"\\", b"\\ud800", b"\\u0000", b"NaN",
    b"1e400", b"-0", b"null", b"true", b":", b",", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\xff", b"\xed\xa0\x80",
    b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
    b"[workflows]\nworkers = 1\n", b"[workflows.mail]\n", b'idle_timeout = "5m"\n', b"[vars]\nA = '1'\n", b"[web]\n",
    b'name = "shop"\n', b'"""', b"'''", b"[[", b"]]", b"A=1\n", b"export A='b'\n", b"#", b"=", b"$",
    b'{"development":{"secrets":{"KEY":"value-1234"}}}', b"* * * * *", b"*/5 0 1-15 * MON", b"0 9 * * 5#2",
    b"|Europe/Paris", b"L", b"@daily", b"1h30m", b"7d", b"90s", b"ms", b'{"token":"t","secrets":{}}',
    b'{"msg":"it","level":"info","ts_ms":1}', b"\x1b[31m", b"\x1b]0;title\x07", b"\xe2\x80\xae", b"\x9b2J", b"\t",
    b"{n}", b"{deep.a}", b"{{", b"}}", b"order:{a}", b"int|5", b"list[str]|[\"a\"]", b"datetime|2026-01-01", b"-",
    b"@workflow\ndef it(ctx): ...\n", b'@workflow(group="mail", aliases=["b"])\n', b"ValueError: no",
    b"Traceback (most recent call last):", b'  File "app.py", line 3, in <module>', b"99999999999999999999", b"0x",
    b"\xc3\xa9", b"\xf0\x9f\x90\x99",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a run of a target went. `broken` is the input that broke it."""

    inputs: int
    slowest_s: float
    broken: bytes | None = None
    why: str = ""


def kept(target: str) -> list[Path]:
    """The files of a target's corpus, by name."""
    folder = CORPUS / target
    return sorted(folder.iterdir()) if folder.is_dir() else []


def seeds(target: str) -> list[bytes]:
    """What is in them."""
    return [path.read_bytes() for path in kept(target)]


def mutated(rng: Random, known: list[bytes]) -> bytes:
    """Something like what is known, or pieced together from words."""
    if not known or rng.random() < 0.3:
        data = bytearray(b"".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 12))))
    else:
        data = bytearray(rng.choice(known))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        _change(rng, data, known)
    return bytes(data[:MAX_BYTES])


def _change(rng: Random, data: bytearray, known: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 2, 4, 16, 64)))
    match rng.randrange(7):
        case 0:
            data[at:at] = rng.choice(WORDS)
        case 1:
            del data[at:end]
        case 2:
            data[at:end] = rng.randbytes(end - at)
        case 3:
            data[at:at] = data[at:end] * rng.choice((1, 2, 100, 5_000))
        case 4:
            data[at:end] = rng.choice(WORDS)
        case 5:
            data[at:at] = rng.choice(known) if known else b""
        case 6 if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)


def by_chance(target: str, *, seconds: float, seed: int) -> Outcome:
    """Run the corpus, then mutations of it, until the time is up or one breaks the target."""
    from reliability.hostile import targets

    rng, known = Random(seed), seeds(target)
    deadline, inputs, slowest_s = time.monotonic() + seconds, 0, 0.0
    waiting = list(known)
    while waiting or time.monotonic() < deadline:
        data = waiting.pop() if waiting else mutated(rng, known)
        inputs += 1
        try:
            slowest_s = max(slowest_s, targets.run(target, data))
        except Exception:
            return Outcome(inputs, slowest_s, data, traceback.format_exc())
        if len(known) < 2_000 and rng.random() < 0.01:
            known.append(data)
    return Outcome(inputs, slowest_s)


def keep(target: str, data: bytes) -> Path:
    """Write what broke a target into its corpus."""
    path = CORPUS / target / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def guided(target: str, *, seconds: int) -> None:
    """The same by atheris, which exits the process when it is done, with 0 if nothing broke."""
    atheris = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["tako"]):
        from reliability.hostile import targets

    def one(data: bytes) -> None:
        try:
            targets.run(target, data)
        except Exception:
            print(f"kept in {keep(target, data)}", file=sys.stderr)
            raise

    options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-rss_limit_mb=1024", "-print_final_stats=1"]
    folders = [str(CORPUS / target)] if seeds(target) else []
    atheris.Setup([sys.argv[0], *options, *_scratch(), *folders], one)
    atheris.Fuzz()


def _scratch() -> list[str]:
    """Where libFuzzer puts the inputs that reached something new: not into our corpus."""
    import tempfile

    return [tempfile.mkdtemp(prefix="tako-hostile-corpus-")]


def main() -> int:
    """One target, for a while."""
    parser = argparse.ArgumentParser(prog="reliability.hostile.fuzz")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="by atheris: pip install atheris")
    options = parser.parse_args()
    if options.guided:
        guided(options.target, seconds=options.seconds)
    outcome = by_chance(options.target, seconds=options.seconds, seed=options.seed)
    print(f"{options.target}: {outcome.inputs:,} inputs, slowest {outcome.slowest_s * 1000:.0f} ms")
    if outcome.broken is not None:
        print(f"broken by {keep(options.target, outcome.broken)}:\n{outcome.why}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
