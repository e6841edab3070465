"""What people look at in a browser: an app's groups, runs, schedules and logs, live, with buttons.

**Where it comes from.** The room knows an app by `apps.App`: the commands of the socket, asked within the process. So
`tako dev` mounts it for one app and `tako-server` for all of its own, and nothing can be seen or done here that the
command line could not.

**Who may look.** It listens on loopback, which every user of the machine can reach, and so can any web page that the
browser has open. So each address begins with a *key*, 128 bits of chance that lie in a file of the owner's: whoever
has not read the file has no address to ask for. There is no cookie: a browser sends those to every port of a host, so
any other user's server on this machine could collect them. What still stands in front of that is in `guard.py`: the
names of the host (DNS rebinding), the origin of what changes something (cross-site requests), and a token of the
page that the button stood on.

**How it stays current.** Pages are made here, whole, and work without a script. With one, the page listens to `live`
(server-sent events), is told *that* something changed, and asks for itself again. Nothing is polled; a browser that
reads slowly costs a set of words, however much happens (`live.py`).

**What it costs.** `server.py` listens, and imports the rest at the first connection. An engine that nobody looks at
holds one socket.
"""
