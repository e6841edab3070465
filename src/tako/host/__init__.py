"""One app on one machine, wired: store, rules, supervisor, sockets. Rules about runs do not belong here."""
