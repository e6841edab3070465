"""`tako bench`: what this machine gives, measured with the public SDK on a real engine with real workers.

`app.py` is the workflows that are measured, `caller.py` the process that calls them, `engine.py` the engine in a folder
of its own. Every figure is durable work: the engine runs as anybody's does, with `synchronous=FULL`, unless the
caller asks for less. A handler marks the moment of its last line in a file, one appended line a run, so that nothing
is measured by asking the engine.
"""
