from __future__ import annotations

import pytest

from tako import MissingSecret, NoEngine, current, secrets
from tako.sdk import runtime
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAKO_APP_NAME", raising=False)
    monkeypatch.delenv("TAKO_INTERNAL_SOCKET", raising=False)
    for name in ("_engine", "_environment", "_secrets", "_token"):
        monkeypatch.setattr(runtime, name, None)
    monkeypatch.setattr(runtime, "_has_looked", False)


@pytest.mark.usefixtures("engine")
def test_secrets_are_a_mapping() -> None:
    assert secrets["STRIPE_KEY"] == "sk_live_123"
    assert "STRIPE_KEY" in secrets
    assert sorted(secrets) == sorted(secrets.keys()) == ["PIN", "STRIPE_KEY"]
    assert len(secrets) == 2
    assert secrets.get("OTHER", "x") == "x"


@pytest.mark.usefixtures("engine")
def test_a_missing_secret_lists_the_known_names_and_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingSecret) as caught:
        secrets["STRIPE_KYE"]

    assert "no secret 'STRIPE_KYE'; known are: PIN, STRIPE_KEY" in str(caught.value)
    assert "tako secrets set STRIPE_KYE" in str(caught.value)
    assert isinstance(caught.value, KeyError)
    monkeypatch.setenv("ENV", "staging")
    assert "`tako secrets set STRIPE_KYE --env staging`" in str(caught.value)


@pytest.mark.usefixtures("engine")
def test_values_are_hidden_in_repr_and_redacted_in_texts() -> None:
    assert repr(secrets) == "<secrets: PIN, STRIPE_KEY>"
    assert secrets.redact("key=sk_live_123, 12 items") == "key=[secret], 12 items"


@pytest.mark.usefixtures("outside")
def test_outside_tako_only_get_works() -> None:
    assert secrets.get("STRIPE_KEY", "test-key") == "test-key"
    assert secrets.redact("x") == "x"
    assert repr(secrets) == "<secrets: not under Tako>"
    with pytest.raises(NoEngine, match="only under Tako"):
        secrets["STRIPE_KEY"]


def test_current_tells_what_this_process_is_part_of(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKO_URL_MY_APP", "http://my-app.localhost:7777")

    assert (current.app, current.env, current.build, current.data_dir) == ("my-app", "development", "dev", "/data")
    assert current.url == "http://my-app.localhost:7777"


@pytest.mark.usefixtures("outside")
def test_outside_tako_current_says_how_to_get_in() -> None:
    with pytest.raises(NoEngine, match="does not run under Tako"):
        _ = current.app
