"""How a browser reaches the apps of `tako dev`: `http://NAME.localhost:7777`, and a plain port of each app's own.

`addresses.py` opens both. Whichever `tako dev` holds port 7777 serves all of the machine: the routes are a folder of
sockets (`routes.py`), as in production. `relay.py` passes messages on, `hosts.py` says which names are ours, `ports.py`
who holds a port, `pages.py` what is answered when there is no app to ask.

What the relay promises:

- Each request is routed by its own Host, a later one on the same connection too, and one at a time: a request is
  passed on when the answer to the one before has ended. What could be read in two ways (`protocol/http1.py`) is
  refused, so nothing can be smuggled past the routing.
- A Host that is not ours is refused, so that a page of somebody else's, which has made its name point to 127.0.0.1,
  cannot reach an app (DNS rebinding).
- `X-Forwarded-For` and `-Proto` are set, and what the client says in their place is dropped.
- An instance that closes an idle connection, because it is replaced, costs nobody a request: the client's connection
  stays, and its next request goes to the next instance.
- Who says half a head and waits is cut off; nobody can hold all connections by that.
"""
