"""A release is what git tracks and the build makes, and its id is its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tako.config import load
from tako.deploy import artifact, build
from tako.errors import TakoError

Git = Callable[..., str]


def paths(folder: Path) -> list[str]:
    return [file.path for file in artifact.collect(load.load(folder)).files]


def test_what_git_tracks_is_the_release(app: Path) -> None:
    found = artifact.collect(load.load(app))

    assert [file.path for file in found.files] == ["app.py", "tako.toml", "workflows/order.py"]
    assert found.message == "The first one"
    assert found.warnings == ()
    assert found.size == sum(path.stat().st_size for path in app.rglob("*.*") if ".git" not in path.parts)


def test_the_same_files_are_the_same_release_and_any_change_is_another(app: Path) -> None:
    def release() -> str:
        return artifact.collect(load.load(app)).release

    first = release()
    assert release() == first

    (app / "app.py").chmod(0o755)
    executable = release()
    (app / "app.py").write_text("app = 2\n")
    changed = release()
    assert len({first, executable, changed}) == 3

    (app / "app.py").write_text("app = 1\n")
    (app / "app.py").chmod(0o644)
    assert release() == first


def test_what_is_not_in_git_is_told_and_stays_here(app: Path) -> None:
    (app / "new.py").write_text("")
    (app / "app.py").write_text("app = 2\n")
    (app / ".gitignore").write_text("*.log\n")
    (app / "debug.log").write_text("")

    found = artifact.collect(load.load(app))

    assert "new.py" not in [file.path for file in found.files]
    assert found.warnings == (
        "Not in git, so not deployed: .gitignore, new.py",
        "Deployed with changes that are not committed: app.py",
    )


def test_an_app_in_a_folder_of_its_repository_is_that_folder(app: Path, git: Git) -> None:
    (app / "sites/blog").mkdir(parents=True)
    (app / "sites/blog/tako.toml").write_text('name = "blog"\n')
    git("add", ".")
    (app / "sites/blog/draft.py").write_text("")

    found = artifact.collect(load.load(app / "sites/blog"))

    assert [file.path for file in found.files] == ["tako.toml"]
    assert found.warnings[0] == "Not in git, so not deployed: draft.py"


def test_folders_of_the_build_go_although_git_ignores_them(app: Path, git: Git) -> None:
    (app / ".gitignore").write_text("dist/\nstaticfiles/\n")
    (app / "tako.toml").write_text(
        'name = "shop"\n[build]\n'
        'run = "mkdir -p dist staticfiles && echo built > dist/app.js && echo $ENV > staticfiles/a.css"\n'
        'include = ["dist"]\n[web]\nstatic = { "/static" = "staticfiles" }\n'
    )
    config = load.load(app)

    said: list[str] = []
    build.run(config, "production", environ={"PATH": "/usr/bin:/bin"}, line=said.append)

    assert (app / "staticfiles/a.css").read_text() == "production\n"
    assert {"dist/app.js", "staticfiles/a.css"} <= set(paths(app))


def test_a_static_folder_that_the_build_did_not_make_is_an_error(app: Path) -> None:
    (app / "tako.toml").write_text('name = "shop"\n[web]\nstatic = { "/static" = "staticfiles" }\n')

    with pytest.raises(TakoError, match="there is no folder staticfiles"):
        artifact.collect(load.load(app))


def test_a_build_that_fails_says_its_last_lines(app: Path) -> None:
    (app / "tako.toml").write_text('name = "shop"\n[build]\nrun = "echo one; echo two >&2; exit 3"\n')

    with pytest.raises(TakoError, match=r"exit code 3: .*\n  one\n  two"):
        build.run(load.load(app), "production", environ={"PATH": "/usr/bin:/bin"}, line=lambda text: None)


def test_secrets_and_what_tools_leave_never_go(app: Path, git: Git) -> None:
    for path in ("tako.secrets.json", ".tako/secrets.json", "__pycache__/x.pyc", "sub/.venv/bin/python"):
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        (app / path).write_text("secret")
    git("add", "--force", ".")

    assert paths(app) == ["app.py", "tako.toml", "workflows/order.py"]


def test_a_link_goes_as_what_it_leads_to_and_not_out_of_the_app(app: Path, git: Git, tmp_path: Path) -> None:
    (app / "alias.py").symlink_to("app.py")
    git("add", ".")
    (file,) = [file for file in artifact.collect(load.load(app)).files if file.path == "alias.py"]
    assert file.size == len("app = 1\n")

    (tmp_path / "private").write_text("key")
    (app / "leak").symlink_to("../private")
    git("add", ".")
    with pytest.raises(TakoError, match=r"leak is a link to .*, which is outside of the app"):
        artifact.collect(load.load(app))


def test_a_file_that_git_has_and_the_folder_has_not_is_an_error(app: Path) -> None:
    (app / "app.py").unlink()

    with pytest.raises(TakoError, match=r"app\.py is in git, but not in the folder"):
        artifact.collect(load.load(app))


def test_without_a_repository_or_a_file_there_is_nothing_to_deploy(tmp_path: Path, git: Git) -> None:
    with pytest.raises(TakoError, match="git tracks no file"):
        artifact.collect(load.load(tmp_path / "app"))

    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(TakoError, match="is not in a git repository"):
        artifact.collect(load.load(tmp_path / "elsewhere"))
