"""Seal a value so that only the holder of a private key can open it: HPKE (RFC 9180), base mode.

X25519, HKDF-SHA256, ChaCha20-Poly1305. The prefix of a sealed value names this suite, so that another can come later
beside it. App, environment and name go into the key schedule: a value that was copied to another name, environment or
app does not open there. Anybody can seal; who put a value there is the repository's history to tell.
"""

import base64
import binascii
import hashlib
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

PUBLIC_PREFIX = "takopk1_"
PRIVATE_PREFIX = "takosk1_"
SEALED_PREFIX = "hpke1:"
_KEY_BYTES = 32
_BASE64 = re.compile(r"[A-Za-z0-9_-]*")
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


class NotOurs(ValueError):
    """A key or a sealed value is not what this module writes. The text completes the sentence "it is …"."""


class CannotOpen(ValueError):
    """The value was sealed for another key, app, environment or name, or was damaged: they cannot be told apart."""


def new_private_key() -> str:
    """A new private key, as text."""
    return PRIVATE_PREFIX + _text(X25519PrivateKey.generate().private_bytes_raw())


def public_key_of(private_key: str) -> str:
    """The public key that belongs to it. Raises NotOurs."""
    return PUBLIC_PREFIX + _text(_private(private_key).public_key().public_bytes_raw())


def seal(value: str, *, public_key: str, place: str) -> str:
    """The value, readable only with the private key and for this place (`place_of`). Raises NotOurs."""
    key = X25519PublicKey.from_public_bytes(_key_bytes(public_key, PUBLIC_PREFIX, "a public key"))
    return SEALED_PREFIX + _text(_SUITE.encrypt(value.encode(), key, info=place.encode()))


def open_sealed(sealed: str, *, private_key: str, place: str) -> str:
    """The value that was sealed.

    Raises:
        NotOurs: the text is no sealed value, or the key no private key.
        CannotOpen: it was sealed for something else.
    """
    if not sealed.startswith(SEALED_PREFIX):
        raise NotOurs(f"not a sealed value (it does not begin with {SEALED_PREFIX})")
    key = _private(private_key)
    try:
        return _SUITE.decrypt(_bytes(sealed.removeprefix(SEALED_PREFIX)), key, info=place.encode()).decode()
    except (InvalidTag, ValueError) as error:
        if isinstance(error, NotOurs):
            raise
        raise CannotOpen("it was sealed with another key, or for another app, environment or name") from None


def place_of(*, app: str, environment: str, name: str) -> str:
    """What a value is bound to. None of the three can hold a slash."""
    return f"tako/v1/{app}/{environment}/{name}"


def fingerprint(public_key: str) -> str:
    """A few letters by which people tell keys apart."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:8]


def _private(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(_key_bytes(text, PRIVATE_PREFIX, "a private key"))


def _key_bytes(text: str, prefix: str, what: str) -> bytes:
    if not text.startswith(prefix):
        raise NotOurs(f"not {what} (it does not begin with {prefix})")
    raw = _bytes(text.removeprefix(prefix))
    if len(raw) != _KEY_BYTES:
        raise NotOurs(f"not {what} (it has {len(raw)} bytes, not {_KEY_BYTES})")
    return raw


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    if not _BASE64.fullmatch(text):
        raise NotOurs("damaged (not base64)")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise NotOurs("damaged (not base64)") from None
