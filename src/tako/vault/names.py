"""What a secret may be called, and what its value may be: the same in development and on a server."""

import re

from tako.errors import TakoError

MAX_VALUE_BYTES = 65_536

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def check(name: str, value: str) -> None:
    """Raises TakoError when this name or value cannot be a secret's. The value stands in no message."""
    check_name(name)
    if not value:
        raise TakoError(f"The value of {name} is empty.", cure=f"To be rid of it: `tako secrets rm {name}`.")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
        raise TakoError(f"The value of {name} is larger than {MAX_VALUE_BYTES} bytes.", cure="Keep it in a file.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TakoError(f"The value of {name} is not UTF-8.", cure="Encode it, for example as base64.") from None


def check_name(name: str) -> None:
    """Raises TakoError when no secret can have this name."""
    if not NAME.fullmatch(name):
        raise TakoError(
            f"{name[:64]!r} cannot be the name of a secret.",
            cure="Use letters, digits and _, such as STRIPE_KEY; at most 128.",
        )
