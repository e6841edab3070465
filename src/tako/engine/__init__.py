"""The durable part: SQLite, and the rules around it. This page is the theory; read it before the files.

**What is true is in the file.** A run is a row of `runs`; its payload, result, steps, attempts, wait and signals lie
in tables of their own, by the row's number. Processes come and go and know nothing for certain. Who was told "yes" was
told after COMMIT, and COMMIT means fsync: what was acknowledged survives any kill, and with `durability = "full"` the
plug.

**A run's life** (`states.py`). It is `pending`, `running`, or has ended as `succeeded`, `cancelled` or `dead`. A
pending run waits in a *lane*: `later` (not due: a start time, a backoff, a sleep, a signal), `ready` (in line), `solo`
(in line for a worker of its own), `limited` (due, and held back by its workflow's `concurrency` or `rate`; see
`limits.py`), `paused` (due, and people hold back its key; see `pausing.py`). One index per lane has its runs in the
order in which they are claimed, so a claim reads as many rows as it takes, whether ten wait or ten million.
`promote_due` moves runs out of `later` when their time has come; nothing else looks at the clock. `line.py` says which
lane a due run gets into.

**Who has the authority.** A claim raises the run's *epoch* and names the worker. Every write of a worker carries both,
and a write that does not match the row changes nothing and is told so (`LeaseLost`). That guard alone keeps two
holders apart; it needs no clock. The *lease* (`leases.py`, in memory, on the monotonic clock) only says how long
silence is borne before a run is taken back. A worker whose exit was seen is not waited for.

**At least once, and never again once saved.** A step's body may run more than once before its result is stored: the
worker can die between the side effect and the save. From the save on it never runs again, and its result never
changes, because the first one is kept and every later one is answered with it. A handler is run again from its first
line after each park, retry and crash; its saved steps, sleeps and waits are given back by name. `retry(from_step=…)`
begins a new *generation* of steps and keeps the old.

**Said twice is said once.** A reply can be lost, so callers repeat. An enqueue names its run's id; a save, finish or
park names its epoch, and what it led to can be read from the row or from `attempts`: the second answer is the first
one's.

**Failures and deaths are counted apart.** An exception spends a retry. A worker's death spends none: it is charged, as
a crash, to a run that was alone in flight, and forgiven by the next saved step or park; three without progress, or
twenty in all, and the run is dead with the worker's last words. Several in flight: nobody knows who it was, so all are
suspects and run alone, one at a time, until they are done or have outlived the suspicion. A death that we caused
charges nobody.

**Waiting is one row.** A parked run has a row in `waiters`; what ends the wait (a signal, its timeout, the end of a
sleep) is saved as a step in the same transaction that puts the run into line, so a wait is resolved once. A signal for
which nobody waits is kept in the mailbox, in order, and is looked for before a run parks. What else may wake a run,
without resolving anything, are rows of `wakers`: the ends of its children, and the waits of its other branches.

**A child is started once** (`children.py`): with the step of that name, in one transaction, by who holds the parent. A
cancel ends parent and children in one transaction too, so none is started afterwards, and none is left.

**One place writes** (`writer.py`), one transaction at a time, and commits together what arrived together. Rules are
plain functions of the store, the time and, where needed, a source of chance: they run on a fake clock and in memory as
well as here. A rule raises a TakoError before its first write or not at all, which is why a hundred callers can share
one transaction. What a transaction means for others (a run is ready, one has ended, something is due later) is emitted
as events and handed out after COMMIT, never before.

**Numbers are kept, not counted.** How many runs of a workflow are in which lane or state is a row that the same
transaction keeps right, with a mirror in memory; the supervisors ask it all the time.

What can go wrong, and where it is met: disk full or file locked, nothing was stored and the caller is told
(`faults.py`); an fsync that failed, the daemon stops, since nobody can say what is on the disk; a damaged, foreign or
newer file, it is refused by name and never replaced (`schema.py`). `invariants.py` says what must always hold, as
questions to ask.
"""
