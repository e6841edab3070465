"""The `.env` file beside `tako.toml`: plain settings of one developer's machine. Read in development only.

The syntax, all of it: a line is empty, a comment that begins with `#`, or `NAME=value`, with an optional `export `
before it. A value is

- bare: up to the end of the line or a ` #`, without the spaces around it, taken as it is;
- in single quotes: taken as it is, may span lines;
- in double quotes: may span lines; `\\n`, `\\t`, `\\"`, `\\\\` and `\\$` are escapes.

Nothing is expanded (`$NAME` stays as it is), and the last of two lines of one name wins.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tako.config import files, keys
from tako.errors import ConfigError

FILE = ".env"
MAX_BYTES = 1_048_576

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#'\"]+)[ \t]*=[ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_BARE = re.compile(r"[^\n]*")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


class Dotenv(NamedTuple):
    """What a `.env` file says. `ignored` are names in it that Tako sets itself: say so on the screen."""

    variables: dict[str, str]
    ignored: tuple[str, ...]


def load(folder: Path) -> Dotenv:
    """The variables of `folder/.env`; none when there is no such file.

    Raises:
        ConfigError: the file cannot be read, or a line of it is not what the syntax above says. Values are never shown.
    """
    path = Path(folder) / FILE
    try:
        data = files.read(path, most=MAX_BYTES)
    except FileNotFoundError:
        return Dotenv({}, ())
    except OSError as error:
        raise ConfigError(f"{FILE}: cannot be read: {error.strerror}.", cure="Check who may read it.") from error
    return parse(data)


def parse(data: bytes) -> Dotenv:
    """The variables that these bytes say. Raises ConfigError, and nothing else, whatever the bytes are."""
    text = _decode(data)
    variables: dict[str, str] = {}
    at = 0
    while at < len(text):
        if blank := _REST.match(text, at):
            at = blank.end()
            continue
        line = text.count("\n", 0, at) + 1
        name, at = _name(text, at, line)
        variables[name], at = _value(text, at, line, name)
    ignored = tuple(name for name in variables if name in keys.RESERVED or name.startswith(keys.RESERVED_PREFIX))
    return Dotenv({name: value for name, value in variables.items() if name not in ignored}, ignored)


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{FILE}: larger than {MAX_BYTES} bytes.", cure="Is it the right file?")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{FILE}:{line}: not UTF-8.", cure="Save the file as UTF-8.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{FILE}:{line}: a NUL character, which no environment variable can hold.")
    return text


def _name(text: str, at: int, line: int) -> tuple[str, int]:
    found = _NAME.match(text, at)
    if not found:
        raise ConfigError(f'{FILE}:{line}: expected a line such as "NAME=value", or a comment that begins with #')
    name = found[1]
    if not keys.VARIABLE_NAME.fullmatch(name):
        raise ConfigError(f"{FILE}:{line}: {keys.clean(name)}: {keys.variable_problem(name)}")
    return name, found.end()


def _value(text: str, at: int, line: int, name: str) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        bare = _BARE.match(text, at)
        assert bare is not None  # it matches nothing, too
        value = re.split(r"(?:^|[ \t])#", bare[0], maxsplit=1)[0]
        return value.strip(), bare.end()
    found = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    if not found:
        raise ConfigError(f"{FILE}:{line}: {name}: the quote {quote} is not closed")
    rest = _REST.match(text, found.end())
    if not rest:
        raise ConfigError(f"{FILE}:{line}: {name}: something follows the closing quote {quote}")
    value = found[1]
    if quote == '"':
        value = re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), value, flags=re.DOTALL)
    return value, rest.end()
