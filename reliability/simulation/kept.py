"""Every seed that has ever failed, with what it showed. They are lived through again before all others."""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).with_name("seeds.txt")


def seeds() -> list[int]:
    """In the order in which they were found."""
    lines = PATH.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]
