"""`python -m tako`: the same as the command `tako`."""

import sys

from tako.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
