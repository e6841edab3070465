"""The laptop's side of a deploy: which files, to which servers, over SSH; and how a server is made of a bare Debian.

Everything that runs on a server is started by `ssh.py`, with the arguments that the functions of `remote.py` return.
What a deploy does there is the daemon's work (`tako.server`): this room sends what it needs and tells what it says.
"""
