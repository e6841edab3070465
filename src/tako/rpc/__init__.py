"""The unix socket: two thin skins over `protocol/framing.py`. `client.py` and `aio.py` are cold, `server.py` is not."""
