"""What an enqueue looks at first: are code and secrets those on the disk, is the store where it was, is there room?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tako.errors import StoreUnavailable
from tako.host import rescue
from tako.logs.redact import redactor

if TYPE_CHECKING:
    from tako.host.app import AppHost

# Looking costs a stat a file, so a burst of enqueues shares one look.
LOOK_AGAIN_S = 0.005


class Lookout:
    """Make it when the store is open: what lies at its path now is the store."""

    def __init__(self, host: AppHost) -> None:
        self._host = host
        self._looked_at = float("-inf")
        self._store = rescue.identity(host.places.database)
        self.take_secrets()

    def look(self) -> None:
        """Notice what was changed.

        Raises:
            StoreUnavailable: the store is gone, or the disk is nearly full. Nothing may be stored.
        """
        host = self._host
        now = host.clock.monotonic()
        if now - self._looked_at < LOOK_AGAIN_S:
            return
        self._looked_at = now
        if not host.is_fixed:
            host.code.look()
            self._look_at_secrets()
        if rescue.identity(host.places.database) != self._store:
            host.in_background(self._rescue())
            raise StoreUnavailable(
                f"{host.places.database} was deleted or replaced while the engine ran; nothing was enqueued",
                cure="See the engine's terminal for what became of it, and start the engine again.",
            )
        rescue.require_room(host.places.database)

    def look_now(self) -> None:
        """Something was changed by a command of ours: notice it at once, new files too."""
        self._host.code.changed()
        self._looked_at = float("-inf")
        self.look()

    def take_secrets(self) -> None:
        """From now on no line of the log holds one of these values."""
        self._secrets_stamp = self._host.secrets.stamp()
        self._host.hub.redact = redactor(self._host.secrets.load())

    def _look_at_secrets(self) -> None:
        if self._host.secrets.stamp() != self._secrets_stamp:
            self.take_secrets()
            self._host.groups.new_code()
            self._host.on_code(["secrets"])

    async def _rescue(self) -> None:
        host = self._host
        if host.admission.closed is None:
            host.admission.closed = f"{host.places.database.name} was deleted or replaced while the engine ran"
            host.fatal(await host.writer.do(rescue.rescue, host.places.database))
