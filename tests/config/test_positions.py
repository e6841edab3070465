"""Each key of a TOML text is found on its line."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from tako.config import positions

# The machine that tests run on may be busy with other things.

TEXT = '''# comment with = and [brackets]
name = "a = b # no comment"
dotted.key = 1

[workflows]   # comment
workers = [
  1, # ]
  "]",
  { x = "}" },
]
text = """
fake = 1
\\""" still inside
"""
literal = \'\'\'
[fake]
\'\'\'
"quoted key" = 1
"with \\"escapes\\"" = 2

[workflows . "mail"]
inline = { a = 1, b = { c = "}" }, d.e = 2 }
[[list]]
x = 1
[[list]]
x = 2
'''


def test_tables_keys_and_inline_tables_are_found_on_their_lines() -> None:
    tomllib.loads(TEXT)

    found = positions.find(TEXT)

    assert found == {
        ("name",): 2, ("dotted",): 3, ("dotted", "key"): 3, ("workflows",): 5, ("workflows", "workers"): 6,
        ("workflows", "text"): 11, ("workflows", "literal"): 15, ("workflows", "quoted key"): 18,
        ("workflows", 'with "escapes"'): 19, ("workflows", "mail"): 21, ("workflows", "mail", "inline"): 22,
        ("workflows", "mail", "inline", "a"): 22, ("workflows", "mail", "inline", "b"): 22,
        ("workflows", "mail", "inline", "b", "c"): 22, ("workflows", "mail", "inline", "d"): 22,
        ("workflows", "mail", "inline", "d", "e"): 22, ("list",): 23, ("list", "x"): 24,
    }  # fmt: skip


_pieces = st.sampled_from(
    ["a", "b", '"c"', "[", "]", "{", "}", "=", ".", ",", "\n", "'", '"', "'''", '"""', "\\", "#", "1", " "]
)


@given(st.lists(_pieces, max_size=40).map("".join))
def test_every_key_of_a_text_that_is_toml_has_a_line(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = positions.find(text)
    assert {path[0] for path in found} == set(document)
