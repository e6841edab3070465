"""Secrets at rest.

In development: `file.py`, plain text that only its owner can read and that never reaches git. For deployed
environments: `sealed.py`, a file in the repository that everybody can add to and only who holds the environment's
private key (`keyring.py`) can read; `sealing.py` is the cryptography of both.
"""
