"""A release's folder: what may be in it, and that it is there as a whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tako.errors import DeployRefused, InvalidRequest
from tako.server import stage
from tako.server.blobs import Blobs
from tako.server.layout import AppLayout, Layout


def entry(path: str, content: bytes = b"x", mode: int = 0o644) -> dict[str, Any]:
    return {"path": path, "mode": mode, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture
def layout(tmp_path: Path) -> AppLayout:
    found = Layout(tmp_path / "data", tmp_path / "run")
    (tmp_path / "data/blobs").mkdir(parents=True)
    made = found.app("shop", "production")
    made.releases.mkdir(parents=True)
    return made


@pytest.fixture
def blobs(tmp_path: Path, layout: AppLayout) -> Blobs:
    return Blobs(tmp_path / "data/blobs")


def send(blobs: Blobs, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    data = base64.b64encode(content).decode()
    blobs.put("d1", digest, offset=0, data=data, is_zlib=False, size=len(content))


@pytest.mark.parametrize(
    "path",
    [
        "../x", "a/../../x", "/etc/passwd", "a//b", ".", "./a", "", "a\nb", "a\0b", "..", "a/..", "\ud800", "c:\\x",
        "a/" * 600,
    ],
)  # fmt: skip
def test_a_path_that_leads_out_of_the_release_or_is_no_name_is_refused(path: str) -> None:
    with pytest.raises(DeployRefused, match="cannot be a file of a release"):
        stage.check_manifest([entry(path)])


@pytest.mark.parametrize(
    "manifest",
    [None, [], {}, [1], [{}], [{"path": "a"}], [entry("a") | {"sha256": "../../x"}], [entry("a") | {"size": -1}]],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(manifest: object) -> None:
    with pytest.raises(InvalidRequest):
        stage.check_manifest(manifest)


def test_a_path_twice_or_both_file_and_folder_is_refused() -> None:
    with pytest.raises(DeployRefused, match="a comes twice"):
        stage.check_manifest([entry("a"), entry("a")])
    with pytest.raises(DeployRefused, match="a is both a file and a folder"):
        stage.check_manifest([entry("a"), entry("a/b")])


@pytest.mark.parametrize("mode", [0o777, 0o4755, 0o120777, 0o600])
def test_other_modes_than_two_are_refused_links_among_them(mode: int) -> None:
    with pytest.raises(DeployRefused, match="is not sent"):
        stage.check_manifest([entry("a", mode=mode)])


def test_a_release_is_hard_links_to_blobs_and_copies_of_programs(layout: AppLayout, blobs: Blobs) -> None:
    send(blobs, b"one")
    send(blobs, b"two")
    manifest = stage.check_manifest([entry("app.py", b"one"), entry("bin/run", b"two", 0o755)])

    stage.stage(layout, "r1", manifest, blobs)
    assert not layout.release("r1").exists()
    stage.finish(layout, "r1")

    source = layout.source("r1")
    assert (source / "app.py").stat().st_ino == blobs.path(hashlib.sha256(b"one").hexdigest()).stat().st_ino
    assert (source / "bin/run").read_bytes() == b"two"
    assert (source / "bin/run").stat().st_mode & 0o777 == 0o555
    assert not layout.partial("r1").exists()


def test_the_source_of_a_release_is_for_the_apps_group_and_its_static_files_are_for_all(
    layout: AppLayout, blobs: Blobs
) -> None:
    send(blobs, b"one")
    stage.stage(layout, "r1", stage.check_manifest([entry("static/a.css", b"one")]), blobs, gid=os.getgid())
    stage.finish(layout, "r1")
    stage.publish(layout, "r1", {"/": "static"})

    found = layout.source("r1").stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o750, os.getgid())
    assert (layout.release("r1") / "release.json").stat().st_mode & 0o777 == 0o600
    public = layout.release("r1") / "public"
    assert [path.stat().st_mode & 0o005 for path in (layout.release("r1"), public, public / "a.css")] == [5, 5, 4]


def test_a_blob_that_was_damaged_refuses_the_release_and_is_sent_anew(layout: AppLayout, blobs: Blobs) -> None:
    send(blobs, b"one")
    path = blobs.path(hashlib.sha256(b"one").hexdigest())
    path.chmod(0o644)
    path.write_bytes(b"two")

    with pytest.raises(DeployRefused, match=r"copy of app\.py is damaged, and was removed"):
        stage.stage(layout, "r1", stage.check_manifest([entry("app.py", b"one")]), blobs)

    assert not path.exists()
    stage.sweep(layout)
    assert list(layout.releases.iterdir()) == []


def test_a_file_that_has_not_arrived_refuses_the_release(layout: AppLayout, blobs: Blobs) -> None:
    with pytest.raises(DeployRefused, match=r"app\.py has not arrived"):
        stage.stage(layout, "r1", stage.check_manifest([entry("app.py", b"never")]), blobs)


def test_current_moves_in_one_step(layout: AppLayout) -> None:
    for release in ("r1", "r2"):
        layout.release(release).mkdir()
        stage.point(layout.current, layout.release(release))

        assert layout.current.resolve() == layout.release(release).resolve()


def test_static_files_are_laid_out_as_they_are_asked_for_and_stay_inside(layout: AppLayout) -> None:
    (layout.source("r1") / "staticfiles/js").mkdir(parents=True)
    (layout.source("r1") / "images").mkdir()
    for name in ("staticfiles/a.css", "staticfiles/js/b.js", "images/c.png"):
        (layout.source("r1") / name).write_text(name)

    stage.publish(layout, "r1", {"/static": "staticfiles", "/static/images": "images"})

    public = layout.release("r1") / "public/static"
    assert (public / "js/b.js").read_text() == "staticfiles/js/b.js"
    assert (public / "images/c.png").read_text() == "images/c.png"
    assert not (layout.source("r1") / "staticfiles/images").exists()
    with pytest.raises(DeployRefused, match="is no folder of the release"):
        stage.publish(layout, "r1", {"/static": "../../.."})
