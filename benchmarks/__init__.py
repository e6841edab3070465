"""Tako beside what a user could pick instead, on one machine, in one run: `scripts/bench`. See README.md."""
