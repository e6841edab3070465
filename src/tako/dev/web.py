"""The web app of `tako dev`: found, served on the shared listener, answered at two addresses, rolled when saved."""

from __future__ import annotations


class Web:
    pass
