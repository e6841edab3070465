"""`.env` has a small syntax that is defined to the last character."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.config import dotenv
from tako.errors import ConfigError

# The machine that tests run on may be busy with other things.


def variables(text: str) -> dict[str, str]:
    return dotenv.parse(text.encode()).variables


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("  A = 1  ", "1"),
        ("A=", ""),
        ("A= # comment", ""),
        ("A=#x", ""),
        ("A=x#y", "x#y"),
        ("A=x # y", "x"),
        ("A=$HOME", "$HOME"),
        ("A='x # \"y\"'", 'x # "y"'),
        ('A="x # y" # z', "x # y"),
        (r'A="a\nb\"\\\$\q"', 'a\nb"\\$\\q'),
        (r"A='a\n'", r"a\n"),
        ("A='two\nlines'", "two\nlines"),
        ('A="two\nlines"\nB=2', "two\nlines"),
        ("A=a b", "a b"),
        ("A=a=b", "a=b"),
        ("A=1\nA=2", "2"),
        ("A=1\r\n", "1"),
        ("\ufeffA=1", "1"),
        ("A=it's", "it's"),
    ],
)
def test_a_value_is_bare_or_quoted(line: str, value: str) -> None:
    assert variables(line)["A"] == value


def test_empty_lines_and_comments_say_nothing() -> None:
    assert variables("\n  # A=1\n\t\n#\nB=2\n") == {"B": "2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nnonsense", '.env:2: expected a line such as "NAME=value", or a comment that begins with #'),
        ("=1", '.env:1: expected a line such as "NAME=value", or a comment that begins with #'),
        ("1A=1", ".env:1: 1A: a variable's name has letters, digits and _ only, and does not begin with a digit"),
        ("A='x\n\nB=2", ".env:1: A: the quote ' is not closed"),
        ('\nA="secret" tail', '.env:2: A: something follows the closing quote "'),
        ("A=\0", ".env:1: a NUL character, which no environment variable can hold."),
    ],
)
def test_a_line_that_means_nothing_is_an_error_with_its_number_and_without_the_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        dotenv.parse(text.encode())

    assert raised.value.message == message


def test_names_that_tako_sets_itself_are_left_out_and_named() -> None:
    found = dotenv.parse(b"ENV=x\nTAKO_BUILD=y\nA=1\nPORT=8000")

    assert found == ({"A": "1"}, ("ENV", "TAKO_BUILD", "PORT"))


def test_no_file_is_no_variables_and_a_folder_is_an_error(tmp_path: Path) -> None:
    assert dotenv.load(tmp_path) == ({}, ())

    (tmp_path / ".env").mkdir()

    with pytest.raises(ConfigError, match="cannot be read"):
        dotenv.load(tmp_path)


@given(st.binary(max_size=80) | st.text(alphabet="A=#'\"\\ \n$x1", max_size=60).map(str.encode))
def test_any_bytes_are_variables_or_a_config_error(data: bytes) -> None:
    try:
        found = dotenv.parse(data)
    except ConfigError as error:
        assert str(error).startswith(".env")
    else:
        assert all("\0" not in value for value in found.variables.values())
