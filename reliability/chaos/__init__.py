"""Chaos: the real `tako dev`, an app and workers under load, while processes are killed and frozen, the disk is full,
code is broken and mended. Afterwards the books must balance.

Whatever happens is written down where it cannot be undone, in ledgers opened with O_APPEND outside of the daemon's
disk: by the app, what was acknowledged and what was refused, and by the workers, each step's start (before its body)
and end (after the reply to its save). The nemesis (`nemesis.py`) has a seed and writes down whom it killed. The
checker (`checker.py`) reads the ledgers and the store, and nothing else.
"""
