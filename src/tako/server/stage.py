"""A release's folder, made of blobs: hard links, checked against the manifest, there as a whole or not at all.

`src` is for the app's own user alone, since what one app is made of is no business of the next one; `public` beside it
has what the ingress serves to everybody.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tako.errors import DeployRefused, InvalidRequest
from tako.protocol.management import MAX_MANIFEST_FILES, ManifestEntry
from tako.server.blobs import HASH, Blobs, sync
from tako.server.layout import AppLayout

MANIFEST = "release.json"
PUBLIC = "public"  # what the ingress serves by itself, laid out as it is asked for


def check_page(found: object, *, before: int = 0) -> list[ManifestEntry]:
    """A page of a manifest, `before` which came so many files, if it names files inside the release and nothing else.

    Raises:
        InvalidRequest: it is not one.
        DeployRefused: a path leads out of the release, or there are too many.
    """
    if not isinstance(found, list) or not found:
        raise InvalidRequest("invalid request: `manifest` is a list of files")
    if before + len(found) > MAX_MANIFEST_FILES:
        raise DeployRefused(f"the release has {before + len(found)} files, and {MAX_MANIFEST_FILES} are the limit")
    return [_check_entry(entry) for entry in found]


def check_manifest(found: object, *, before: Sequence[ManifestEntry] = ()) -> list[ManifestEntry]:
    """A manifest whose last page this is; those `before` were checked.

    Raises:
        InvalidRequest: it is not one.
        DeployRefused: a path leads out of the release, comes twice, or is a folder of another one.
    """
    manifest = [*before, *check_page(found, before=len(before))]
    seen: set[str] = set()
    folders: set[str] = set()
    for entry in manifest:
        path = entry["path"]
        if path in seen:
            raise DeployRefused(f"{path} comes twice in the release")
        seen.add(path)
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    if both := sorted(seen & folders):
        raise DeployRefused(f"{both[0]} is both a file and a folder of the release")
    return manifest


def _check_entry(entry: Any) -> ManifestEntry:
    if not isinstance(entry, dict) or {"path", "mode", "size", "sha256"} - entry.keys():
        raise InvalidRequest("invalid request: a file has `path, mode, size, sha256`")
    path, mode, size, digest = entry["path"], entry["mode"], entry["size"], entry["sha256"]
    if not isinstance(path, str) or not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise InvalidRequest("invalid request: a file has a `path` and a `sha256`")
    if type(size) is not int or size < 0 or type(mode) is not int:
        raise InvalidRequest("invalid request: a file has a `size` and a `mode`")
    parts = path.split("/")
    if (
        "" in parts
        or "." in parts
        or ".." in parts
        or len(path.encode("utf-8", "replace")) > 1024
        or not is_plain(path)
    ):
        raise DeployRefused(
            f"{path[:200]!r} cannot be a file of a release: it would lie outside of it, or has no proper name"
        )
    if mode not in (0o644, 0o755):
        raise DeployRefused(f"{path}: mode {mode:04o} is not sent; files have 0644 or 0755")
    return {"path": path, "mode": mode, "size": size, "sha256": digest}


def is_plain(path: str) -> bool:
    """Whether the text has no control characters and can be a name on disk."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\\" not in path and path.isprintable()


def digest_of(manifest: Sequence[ManifestEntry]) -> str:
    """Names the files of a release: the same for the same paths, modes and contents."""
    lines = sorted(f"{entry['path']}\0{entry['mode']:o}\0{entry['sha256']}" for entry in manifest)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def stage(
    layout: AppLayout, release: str, manifest: Sequence[ManifestEntry], blobs: Blobs, *, gid: int | None = None
) -> None:
    """Put the release together in `partial`: its `src`, and `release.json`. For a thread.

    `gid`: of those who may read its source besides us; None when the app runs as we do.

    Raises:
        DeployRefused: a blob is missing or damaged; the damaged one is removed, so that it is sent again.
    """
    partial = layout.partial(release)
    remove(partial)
    source = partial / "src"
    partial.mkdir(parents=True)
    source.mkdir(mode=0o750)
    if gid is not None:
        os.chown(source, -1, gid)
    for entry in manifest:
        blob = blobs.path(entry["sha256"])
        _verify(blob, entry)
        target = source / entry["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry["mode"] == 0o755:
            shutil.copyfile(blob, target)
            target.chmod(0o555)
        else:
            os.link(blob, target)
    (partial / MANIFEST).touch(mode=0o600)
    (partial / MANIFEST).write_text(json.dumps({"release": release, "manifest": list(manifest)}))
    blobs.sync(entry["sha256"] for entry in manifest)
    for folder in {source, *(parent for entry in manifest for parent in _folders(source, entry["path"]))}:
        sync(folder)
    sync(partial)


def _folders(source: Path, path: str) -> list[Path]:
    return [source / parent for parent in PurePosixPath(path).parents]


def _verify(blob: Path, entry: ManifestEntry) -> None:
    try:
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DeployRefused(
            f"{entry['path']} has not arrived", cure="Deploy again: only what is missing is sent."
        ) from None
    if found != entry["sha256"]:
        blob.unlink(missing_ok=True)
        raise DeployRefused(
            f"the server's copy of {entry['path']} is damaged, and was removed", cure="Deploy again: it is sent anew."
        )


def finish(layout: AppLayout, release: str) -> None:
    """`partial` becomes the release, in one step. For a thread."""
    final = layout.release(release)
    remove(final)
    layout.partial(release).rename(final)
    sync(layout.releases)


def publish(layout: AppLayout, release: str, static: Mapping[str, str]) -> None:
    """Lay out the static files of a release for the ingress: under each prefix, links to the files of a folder.

    For a thread.
    """
    public = layout.release(release) / PUBLIC
    remove(public)
    for prefix, folder in static.items():
        source = layout.source(release) / folder.strip("/")
        if not source.resolve().is_relative_to(layout.source(release).resolve()) or not source.is_dir():
            raise DeployRefused(
                f"web.static: {folder!r} is no folder of the release", cure="Is it made by [build], or kept out by git?"
            )
        target = public.joinpath(*prefix.strip("/").split("/"))
        for path in source.rglob("*"):
            place = target / path.relative_to(source)
            if path.is_file() and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, place)


def sweep(layout: AppLayout) -> None:
    """Remove what an earlier daemon left half-way."""
    for path in layout.releases.glob(".*.partial") if layout.releases.is_dir() else ():
        remove(path)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there."""
    if folder.is_symlink() or folder.exists():
        shutil.rmtree(folder)


def point(link: Path, target: Path) -> None:
    """Let a link lead to another place, in one step."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
