"""For tests of user code: the pytest fixture `engine`, an Engine that runs in process on a fake clock.

Lazy, since pytest loads the plug-in of this room in every project that has Tako installed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tako.testing.engine import Engine as Engine
    from tako.testing.faults import NeverReached as NeverReached

_HOME = {"Engine": "tako.testing.engine", "NeverReached": "tako.testing.faults"}

__all__ = ["Engine", "NeverReached"]


if not TYPE_CHECKING:  # else a name that is misspelt would be one of unknown type, not an error

    def __getattr__(name: str) -> object:
        """Load a public name at its first use."""
        if name not in _HOME:
            raise AttributeError(f"module 'tako.testing' has no attribute {name!r}")
        return getattr(__import__(_HOME[name], fromlist=[name]), name)
