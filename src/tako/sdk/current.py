"""`tako.current`: which app, environment and release this process is."""

import os

from tako.protocol import env
from tako.sdk import runtime


class Current:
    """What this process is a part of. Raises NoEngine outside Tako."""

    __slots__ = ()

    @property
    def app(self) -> str:
        """The app's name."""
        return runtime.environment().app

    @property
    def env(self) -> str:
        """The environment's name: "development", "production", or another of `tako.toml`."""
        return runtime.environment().environment

    @property
    def build(self) -> str:
        """The release's id; "dev" in development."""
        return runtime.environment().release

    @property
    def data_dir(self) -> str:
        """A folder of the app's own that survives releases, and is in its backups. It is there."""
        return runtime.environment().data_dir

    @property
    def url(self) -> str:
        """Where the app answers, such as "https://shop.example.com"; "" when it has no address."""
        return os.environ.get(env.url_variable(self.app), "")

    def __repr__(self) -> str:
        return f"<current: {self.app} {self.build} in {self.env}>"


current = Current()
