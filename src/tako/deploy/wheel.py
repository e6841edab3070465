"""Our own wheel, made from what is installed here: the server runs the very code that this command runs.

An editable installation has no version of its own for every change, so its wheel gets one: 0.1.0+ and a hash of it.
"""

import base64
import hashlib
import importlib.metadata
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION = "tako-py"
_LEFT_OUT = {"__pycache__"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel in memory. `version` is what it is installed as."""

    version: str
    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """For `--require-hashes`."""
        return hashlib.sha256(self.data).hexdigest()


def build() -> Wheel:
    """The wheel; the same bytes for the same code."""
    files = dict(_package())
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    version = distribution.version
    if _is_editable(distribution):
        digest = hashlib.sha256()
        for name, data in sorted(files.items()):
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
        version = f"{version.split('+')[0]}+{digest.hexdigest()[:8]}"
    stem = f"{DISTRIBUTION.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files |= {
        f"{info}/METADATA": _metadata(distribution, version),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tako\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": (distribution.read_text("entry_points.txt") or "").encode(),
    }
    return Wheel(version=version, name=f"{stem}-py3-none-any.whl", data=_zip(files, record=f"{info}/RECORD"))


def _package() -> list[tuple[str, bytes]]:
    root = Path(__file__).parents[1]
    return [
        (path.relative_to(root.parent).as_posix(), path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and _LEFT_OUT.isdisjoint(path.parts)
    ]


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    told = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(told.get("dir_info", {}).get("editable"))


def _metadata(distribution: importlib.metadata.Distribution, version: str) -> bytes:
    text = distribution.read_text("METADATA") or ""
    return text.replace(f"\nVersion: {distribution.version}\n", f"\nVersion: {version}\n", 1).encode()


def _zip(files: dict[str, bytes], *, record: str) -> bytes:
    rows = []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}\n")
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo(record, _EPOCH), "".join([*rows, f"{record},,\n"]), zipfile.ZIP_DEFLATED)
    return out.getvalue()
