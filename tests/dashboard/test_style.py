"""The style sheet: what is written can be read, in both themes, and nothing is fetched from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = files("tako.dashboard").joinpath("static/dashboard.css").read_text()
SCRIPT = files("tako.dashboard").joinpath("static/dashboard.js").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)
ENOUGH = 4.5  # WCAG 2.2, AA, for text of any size

ON_SURFACES = [
    (text, surface)
    for text in ("ink", "quiet", "accent", "red", "green", "blue", "violet", "amber", "slate")
    for surface in ("paper", "sheet", "sunk")
]
ON_TINTS = [(name, f"{name}-tint") for name in ("green", "red", "blue", "violet", "amber", "slate")]
ON_BUTTONS = [("on-accent", "accent"), ("on-accent", "red")]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, {**LIGHT, **DARK}], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), ON_SURFACES + ON_TINTS + ON_BUTTONS)
def test_what_is_written_can_be_read(theme: dict[str, str], text: str, ground: str) -> None:
    assert contrast(theme[text], theme[ground]) >= ENOUGH


def test_every_colour_has_its_dark_twin() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_every_name_that_is_used_is_there() -> None:
    assert set(re.findall(r"var\(--([a-z-]+)\)", CSS)) <= set(re.findall(r"--([a-z-]+):", CSS))


def test_nothing_comes_from_elsewhere() -> None:
    assert "url(" not in CSS
    assert "@import" not in CSS
    for text in (CSS, SCRIPT):
        assert "http:" not in text
        assert "https:" not in text


def test_the_script_makes_no_markup_of_texts_but_by_the_parser() -> None:
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in SCRIPT
