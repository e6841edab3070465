"""The server: what holds sockets, queues and releases of all apps of a machine, and what stands in front of it."""
