"""The sealed file: everybody adds, key holders read, and a crash in between loses nothing."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from tako.errors import TakoError
from tako.vault import sealing
from tako.vault.keyring import Keyring
from tako.vault.sealed import SealedFile

ENV = "production"


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "config/keys", {})


@pytest.fixture
def file(tmp_path: Path) -> SealedFile:
    (tmp_path / "app").mkdir()
    return SealedFile(tmp_path / "app", app="shop")


def test_without_a_file_there_are_no_secrets_and_no_key_is_needed(file: SealedFile, ring: Keyring) -> None:
    assert file.names(ENV) == []
    assert file.open(ENV, keyring=ring) == {}


def test_the_first_secret_makes_the_key_and_later_ones_use_it(file: SealedFile, ring: Keyring) -> None:
    is_new, key_path = file.set(ENV, "STRIPE_KEY", "sk_1", keyring=ring)
    assert is_new
    assert key_path == ring.path("shop", ENV)
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600

    assert file.set(ENV, "API", "ü\n", keyring=ring) == (True, None)
    assert file.set(ENV, "STRIPE_KEY", "sk_2", keyring=ring) == (False, None)

    assert file.names(ENV) == ["API", "STRIPE_KEY"]
    assert file.open(ENV, keyring=ring) == {"API": "ü\n", "STRIPE_KEY": "sk_2"}


def test_no_value_and_no_private_key_stands_in_the_file(file: SealedFile, ring: Keyring) -> None:
    file.set(ENV, "STRIPE_KEY", "sk_live_hunter22", keyring=ring)

    text = file.path.read_text()

    assert "hunter22" not in text
    assert sealing.PRIVATE_PREFIX not in text
    assert text.endswith("}\n")


def test_who_has_no_key_can_add_and_not_read(file: SealedFile, ring: Keyring, tmp_path: Path) -> None:
    file.set(ENV, "A", "1", keyring=ring)
    stranger = Keyring(tmp_path / "elsewhere", {})

    assert file.set(ENV, "B", "2", keyring=stranger) == (True, None)

    with pytest.raises(TakoError, match="the private key is not on this machine"):
        file.open(ENV, keyring=stranger)
    assert file.open(ENV, keyring=ring) == {"A": "1", "B": "2"}


def test_a_key_in_the_environment_will_do(file: SealedFile, ring: Keyring, tmp_path: Path) -> None:
    file.set(ENV, "A", "1", keyring=ring)
    key = ring.path("shop", ENV).read_text()

    assert file.open(ENV, keyring=Keyring(tmp_path / "none", {"TAKO_SECRET_KEY": key})) == {"A": "1"}
    with pytest.raises(TakoError, match="is not a private key"):
        file.open(ENV, keyring=Keyring(tmp_path / "none", {"TAKO_SECRET_KEY": "nonsense"}))


def test_after_a_rotation_old_commits_still_open(file: SealedFile, ring: Keyring, tmp_path: Path) -> None:
    file.set(ENV, "A", "1", keyring=ring)
    file.set(ENV, "B", "2", keyring=ring)
    old_commit = file.path.read_text()
    old_key = ring.path("shop", ENV).read_text()

    assert file.rotate(ENV, keyring=ring) == (2, ring.path("shop", ENV))

    assert file.open(ENV, keyring=ring) == {"A": "1", "B": "2"}
    with pytest.raises(TakoError, match="no key of production here is the one"):
        file.open(ENV, keyring=Keyring(tmp_path / "none", {"TAKO_SECRET_KEY": old_key}))
    file.path.write_text(old_commit)
    assert file.open(ENV, keyring=ring) == {"A": "1", "B": "2"}


def test_a_rotation_that_cannot_write_the_file_leaves_it_readable(
    file: SealedFile, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.set(ENV, "A", "1", keyring=ring)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SealedFile, "_write", full)
    with pytest.raises(OSError, match="No space"):
        file.rotate(ENV, keyring=ring)

    assert file.open(ENV, keyring=ring) == {"A": "1"}


def test_removing_is_all_or_nothing(file: SealedFile, ring: Keyring) -> None:
    file.set(ENV, "A", "1", keyring=ring)
    file.set(ENV, "B", "2", keyring=ring)

    with pytest.raises(TakoError, match="no secret 'C'; none was removed"):
        file.remove(ENV, ["A", "C"])
    assert file.names(ENV) == ["A", "B"]

    file.remove(ENV, ["A", "B"])
    assert file.names(ENV) == []
    assert file.open(ENV, keyring=ring) == {}


def test_a_value_moved_by_hand_to_another_environment_does_not_open(file: SealedFile, ring: Keyring) -> None:
    file.set(ENV, "A", "1", keyring=ring)
    document = json.loads(file.path.read_text())
    document["staging"] = document[ENV]
    file.path.write_text(json.dumps(document))
    ring.add("shop", "staging", ring.path("shop", ENV).read_text().strip())

    with pytest.raises(TakoError, match="A of staging cannot be opened"):
        file.open("staging", keyring=ring)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("<<<<<<< HEAD\n{}", "git left a conflict in it"),
        ("{", "it is not JSON"),
        ("[]", "not a table of environments"),
        ('{"production": {}}', "'production' has no public key"),
        ('{"production": {"public_key": "takopk1_x", "secrets": {"A": 1}}}', "'A' of 'production' is no secret"),
        ('{"production": {"public_key": "takopk1_x", "secrets": {"../A": "x"}}}', "is no secret"),
        ('{"production": {"public_key": "takopk1_x", "secrets": []}}', "are not a table"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_with_what_is_wrong(
    file: SealedFile, ring: Keyring, content: str, why: str
) -> None:
    file.path.write_text(content)

    with pytest.raises(TakoError) as caught:
        file.set(ENV, "B", "2", keyring=ring)

    assert why in caught.value.message
    assert file.path.read_text() == content


def test_a_key_that_others_can_read_is_not_used(file: SealedFile, ring: Keyring) -> None:
    file.set(ENV, "A", "1", keyring=ring)
    ring.path("shop", ENV).chmod(0o644)

    with pytest.raises(TakoError, match=r"others can reach it \(mode 0644\)"):
        file.open(ENV, keyring=ring)


def test_two_who_add_at_once_both_count(file: SealedFile, ring: Keyring) -> None:
    file.set(ENV, "FIRST", "1", keyring=ring)
    names = [f"N{number}" for number in range(8)]
    threads = [threading.Thread(target=file.set, args=(ENV, name, "v"), kwargs={"keyring": ring}) for name in names]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert file.names(ENV) == sorted(["FIRST", *names])
