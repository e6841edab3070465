"""A sealed value opens with its key, in its place, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.vault import sealing

# Sealed by the first version of this format: what is in users' repositories must open for ever.
OLD_KEY = "takosk1_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"
PLACE = sealing.place_of(app="shop", environment="production", name="STRIPE_KEY")


@given(st.text(min_size=1, max_size=2000))
def test_what_is_sealed_opens(value: str) -> None:
    key = sealing.new_private_key()

    sealed = sealing.seal(value, public_key=sealing.public_key_of(key), place=PLACE)

    assert sealing.open_sealed(sealed, private_key=key, place=PLACE) == value


def test_two_seals_of_one_value_differ() -> None:
    public_key = sealing.public_key_of(OLD_KEY)

    assert sealing.seal("a", public_key=public_key, place=PLACE) != sealing.seal(
        "a", public_key=public_key, place=PLACE
    )


@pytest.mark.parametrize(
    "place", ["tako/v1/shop/staging/STRIPE_KEY", "tako/v1/shop/production/OTHER", "tako/v1/x/production/STRIPE_KEY"]
)
def test_a_value_does_not_open_in_another_place(place: str) -> None:
    sealed = sealing.seal("sk_live", public_key=sealing.public_key_of(OLD_KEY), place=PLACE)

    with pytest.raises(sealing.CannotOpen):
        sealing.open_sealed(sealed, private_key=OLD_KEY, place=place)


def test_a_value_does_not_open_with_another_key() -> None:
    sealed = sealing.seal("sk_live", public_key=sealing.public_key_of(OLD_KEY), place=PLACE)

    with pytest.raises(sealing.CannotOpen):
        sealing.open_sealed(sealed, private_key=sealing.new_private_key(), place=PLACE)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_damaged_value_never_opens(at: int, change: int) -> None:
    sealed = sealing.seal("sk_live", public_key=sealing.public_key_of(OLD_KEY), place=PLACE)
    raw = bytearray(sealed.encode())
    raw[at % (len(raw) - 1)] ^= change  # of the last letter of base64, some bits mean nothing

    with pytest.raises(ValueError):
        sealing.open_sealed(raw.decode("latin-1"), private_key=OLD_KEY, place=PLACE)


def test_values_of_the_first_version_open() -> None:
    assert sealing.open_sealed(OLD_VALUE, private_key=OLD_KEY, place=PLACE) == "sk_live_hunter22"


@pytest.mark.parametrize("key", ["", "takosk1_", "takosk1_AAAA", "takopk1_" + "A" * 43, "takosk1_ü" + "A" * 42, "sk"])
def test_what_is_no_private_key_is_refused(key: str) -> None:
    with pytest.raises(sealing.NotOurs):
        sealing.public_key_of(key)


OLD_VALUE = "hpke1:NbLCHxudMz9MlxT_dTmJu-7_iZm7vXfEwg-iBifsqGzl6WOepId6NwzCgJx3SvcfcGgzVjCNXVf97rHEu96d9g"
