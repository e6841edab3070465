"""Seams to web frameworks, one file or package each, loaded only by who uses them: `tako.contrib.asgi` and the like."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tako.contrib import asgi as asgi
    from tako.contrib import django as django
    from tako.contrib import flask as flask

_SEAMS = ("asgi", "django", "flask")

if not TYPE_CHECKING:  # else a name that is misspelt would be one of unknown type, not an error

    def __getattr__(name: str) -> object:
        """Load a seam at its first use, so that `import tako` is enough to reach it."""
        if name not in _SEAMS:
            raise AttributeError(f"module 'tako.contrib' has no attribute {name!r}")
        return __import__(f"tako.contrib.{name}", fromlist=["*"])
