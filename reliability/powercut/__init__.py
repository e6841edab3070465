"""Power cuts and failing disks, on the real daemon.

A shim (iolog.c, preloaded) writes down all that the daemon asks of its disk and all that it answers, in one order
(`record.py`). Then the power is cut after any record: the disk is built as it may be left (`disk.py`), opened as the
engine opens it after a start, and compared with what had been answered by then (`facts.py`, `judge.py`). With
`durability = "process"` acknowledged runs must be missing, else the rig would prove nothing.

`failing.py` makes the N-th write, sync or truncate fail instead, for every N.
"""
