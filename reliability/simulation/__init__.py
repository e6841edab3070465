"""The real engine, host and supervisor on a simulated machine: virtual time, seeded chance, faults, and an oracle.

**What is real.** `host` as a whole (admission, holding, claims, recovery, handlers, ticker, dispatcher, rounds), the
rules of `engine`, the batches of its writer, the supervisor's pools and table, `rpc.server.Connection` from the decoded
message on. They run on an event loop whose time is a queue (`loop.py`), on SQLite in memory.

**What is simulated.** The machine: processes and pids, the disk, both clocks, the network between (`machine.py`,
`network.py`); workers that speak the protocol and follow scripts (`worker.py`, `shop.py`); callers (`callers.py`). The
worker's own code is tested elsewhere (`tests/worker`, and with real kills by `reliability.chaos`).

**One seed is one history** (`world.py`). `plan.py` makes of the seed a list of events: what callers ask, what people
do, what breaks. Each seed draws its own few kinds of faults (a swarm), so that rare combinations are not drowned by
frequent ones. Then everything heals, and all that was begun must come to its end (L1).

**The oracle** (`oracle.py`) sees every commit, every reply, every process that ends, and keeps its own books, by which
it judges. It knows the contract's promises (docs/design: D, E, I, L, S, C), not the code.

**It is itself tested.** `mutants.py` breaks the engine on purpose, once for each promise; each defect must be found.
`counters.py` demands that what is to be survived has really happened, often.
"""
