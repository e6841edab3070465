"""The process that runs workflows of one group. Boots whole, or says why not and exits.

`python -m tako.worker` does, and so does `python -c "from tako.worker.__main__ import serve; serve()"`, 5 ms faster:
the interpreter need not load what finds and runs a module by its name.
"""

from tako.worker.boot import prepare


def serve() -> None:
    """Boot, then work until there is nothing to do or somebody asks us to stop; ends the process."""
    booted = prepare()
    from tako.worker.loop import Worker  # after the user's modules: what they import first is theirs to decide

    Worker(booted).serve_and_exit()


if __name__ == "__main__":
    serve()
