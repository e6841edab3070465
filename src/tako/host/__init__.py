"""One app on one machine, wired: store, rules, supervisor, sockets. A rule about runs found here is in the wrong room."""
