"""The tools that check the contract: simulation, chaos, power cuts, hostile input, soak, recovery, peers.

Each is a package with a `__main__`; `scripts/gate NAME` runs it at the release gate's size, `tests/reliability` runs it
at the size that every change can afford. docs/reliability.md says what each one proves, and what it found.
"""
