"""The daemon, as the rig starts it: the installed one, with checkpoints soon enough for a short recording to have many.

With `--next-schema` it is the daemon of a next version, whose schema has one more migration.
"""

from __future__ import annotations

import sys

from tako.cli.main import main
from tako.engine import schema, sql, writer

CHECKPOINT_PAGES = 150
KNOWN = schema.CURRENT
NEXT = "ALTER TABLE runs ADD COLUMN note TEXT;\nCREATE INDEX runs_note ON runs (note) WHERE note IS NOT NULL;\n"


def add_next_schema() -> int:
    """Let this process know one more migration; its number."""
    known = sql.migrations()
    number = known[-1][0] + 1
    sql.migrations = lambda: [*known, (number, "next", NEXT)]
    schema.CURRENT = number
    return number


if __name__ == "__main__":
    if "--next-schema" in sys.argv:
        sys.argv.remove("--next-schema")
        add_next_schema()
    writer._CHECKPOINT_PAGES = CHECKPOINT_PAGES
    sys.exit(main())
