"""Contracts between processes: both sides of every wire read these files. No I/O but fd 3, no dependency, cold."""

PROTOCOL_VERSION = 1
