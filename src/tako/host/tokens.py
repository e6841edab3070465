"""Which process a token stands for. Tokens travel in envelopes only; what is kept, also on disk, is their hash."""

from __future__ import annotations

from tako.errors import Unauthorized
from tako.rpc.auth import Principal, Role, new_token, token_hash


class Tokens:
    """The tokens of one app's processes."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._principals: dict[str, Principal] = {}

    def issue(self, *, worker_id: str | None = None) -> str:
        """A new token: of a worker, or (None) of a web instance or a command of the app."""
        token = new_token()
        self.admit(token_hash(token), worker_id=worker_id)
        return token

    def admit(self, hashed: str, *, worker_id: str | None) -> None:
        """Recognise a token by its recorded hash: its process was started by an engine before this one."""
        role = Role.CLIENT if worker_id is None else Role.WORKER
        self._principals[hashed] = Principal(self._app, role, worker_id)

    def hash_of(self, worker_id: str) -> str | None:
        """What to record of a worker's token."""
        return next((hashed for hashed, who in self._principals.items() if who.worker_id == worker_id), None)

    def forget(self, worker_id: str) -> None:
        """The worker is gone, and its token with it."""
        if hashed := self.hash_of(worker_id):
            self.revoke(hashed)

    def revoke(self, hashed: str) -> None:
        """Recognise it no more. Twice is harmless."""
        self._principals.pop(hashed, None)

    def principal(self, token: object) -> Principal:
        """Whose token this is.

        Raises:
            Unauthorized: nobody's of this app.
        """
        is_one = isinstance(token, str) and token.isascii()
        found = self._principals.get(token_hash(str(token))) if is_one else None
        if found is None:
            raise Unauthorized(f"this token belongs to no process of {self._app}")
        return found
