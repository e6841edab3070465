"""Soak: bursts of work with sleep in between, again and again, and whether anything grows that should not.

A cycle is a burst of runs, their end, and the way back to no worker at all. After each one the daemon's memory, open
files, threads, dead children and log are read from the kernel, at rest. The last third of the cycles is compared with
the second: the first third is warming up.
"""
