"""`tako-server`: the daemon of a machine. It holds the listeners, the queues and the intent; processes come and go.

Terms: an *app* is a name and an environment; a *release* is one upload of its files; a *job* is one deploy, roll-back
or roll. What is true is in two places: `state.db` (this room) says what should be, `runs.db` (one for each app, the
engine's) says which release may claim. Where the two differ, `runs.db` decides and `state.db` follows.

A job is a row, written before each phase is begun, so that a daemon that is started anew knows where the last one
stood (`recover.py`). Nothing before the phase `switch` touches what serves. In front of it all stands Caddy, which
reads a folder of ours (`hosts.py`) and needs no word from us.
"""
