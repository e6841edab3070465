"""The same faults, caused for real, in Tako and in five others: `scripts/gate peers`, one command.

Each stack (`stacks.py`) is set up as its own documentation says for work that must not be lost, on this machine, with
its broker or database as a real process (`services.py`) and its workers under a service manager that starts them again
(`managed.py`). An app of a few lines (`apps/`) has the same bodies everywhere (`apps/bodies.py`), which keep a ledger.
`faults.py` causes each fault and writes down what was seen; `judge.py` says what that means, in the words of the table.

Everything lies in a folder that is removed at the end; what is installed, in `.reliability/peers`.
"""
