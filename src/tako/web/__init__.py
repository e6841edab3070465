"""The web instance: the process that serves the user's app on a listening socket which the daemon lends it.

`python -m tako.web app:app` imports and serves an ASGI or WSGI app; `python -m tako.web -- COMMAND` starts any other
server and stands in front of it. Both keep the same contract (SPEC.md sections 1 and 4), so that the daemon knows one
kind of instance:

- fd 5 is the app's listening socket. Its queue belongs to the socket and not to us: an instance accepts from it after
  `serve`, stops at `pause` or SIGTERM, and a connection that it has not accepted waits there for the next instance.
- fd 4 is the line to the daemon. Its end means that the daemon is gone, and nothing else: keep serving.
- the private socket is served from the start, so that health can be asked before a user is let in.
- the control socket has a name, so that a daemon that was restarted finds the instance and gets the listener back.

`load.py` imports the app, `runner.py` serves it, `shim.py` stands in front of a command, `line.py` is the line to the
daemon that both use, `access.py` writes what was requested.
"""
