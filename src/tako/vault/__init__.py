"""Secrets at rest. In development: `file.py`, plain text that only its owner can read and that never reaches git."""
