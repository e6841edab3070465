"""Secrets at rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tako.errors import StoreDamaged, TakoError
from tako.server.sealing import Sealer

VALUES = {"STRIPE": "sk_live_1", "EMPTY": ""}


def test_what_is_sealed_opens_with_the_key_and_for_the_same_app_only(tmp_path: Path) -> None:
    sealer = Sealer.of(tmp_path / "secret.key")
    sealed = sealer.seal(VALUES, app="shop", env="production")

    assert Sealer.of(tmp_path / "secret.key").open(sealed, app="shop", env="production") == VALUES
    assert b"sk_live" not in sealed
    for app, env in (("shop", "staging"), ("other", "production")):
        with pytest.raises(StoreDamaged, match="cannot be opened"):
            sealer.open(sealed, app=app, env=env)


def test_another_key_opens_nothing_and_a_changed_byte_neither(tmp_path: Path) -> None:
    sealed = Sealer.of(tmp_path / "one.key").seal(VALUES, app="shop", env="production")

    with pytest.raises(StoreDamaged, match=r"Put the right secret\.key back|cannot be opened"):
        Sealer.of(tmp_path / "two.key").open(sealed, app="shop", env="production")
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(StoreDamaged):
        Sealer.of(tmp_path / "one.key").open(broken, app="shop", env="production")


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    Sealer.of(tmp_path / "secret.key")
    (tmp_path / "secret.key").chmod(0o644)

    with pytest.raises(TakoError, match="others can read it"):
        Sealer.of(tmp_path / "secret.key")


def test_systemds_credential_is_the_key_when_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/secret.key").write_bytes(b"k" * 32)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))

    sealed = Sealer.of(tmp_path / "secret.key").seal(VALUES, app="shop", env="production")

    assert not (tmp_path / "secret.key").exists()
    assert Sealer(b"k" * 32).open(sealed, app="shop", env="production") == VALUES
