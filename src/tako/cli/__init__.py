"""The command line: `main` finds the command, `commands/` holds one file each and is imported one file at a time.

A command is a module with `configure(parser)` and `run(context, args) -> exit code`. It says to people through
`context.output`, talks to the engine through `context.engine()`, and raises a TakoError for what can be expected to
go wrong; `errors.py` is the door through which every failure leaves.
"""
