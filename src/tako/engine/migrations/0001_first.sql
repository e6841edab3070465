-- The first schema. What must always be true of a row stands here as a CHECK; I1 to I9 are the contract's invariants.

-- One row a run, kept narrow: it is rewritten at each change of state, so what can be large lives in tables of its own.
-- `seq` orders runs by arrival and is what every other table refers to.
CREATE TABLE runs (
  seq              INTEGER PRIMARY KEY,
  id               TEXT    NOT NULL UNIQUE,
  workflow         TEXT    NOT NULL,
  status           TEXT    NOT NULL,
  -- Where a pending run waits: not due, to be claimed, to be claimed alone (a suspect), or due and held back by a limit
  -- or by a pause of its key.
  lane             TEXT,
  -- Why a pending run waits: an unfinished sleep or wait_for. NULL: it waits for its time or a claim.
  parked           TEXT,
  priority         INTEGER NOT NULL DEFAULT 0,
  -- Pending: when it is due. NULL while it waits for a signal without a timeout.
  run_at_ms        INTEGER,
  key              TEXT,
  -- What its workflow's limits are counted by; NULL: by the workflow as a whole.
  concurrency_key  TEXT,
  rate_key         TEXT,
  -- The fencing token: +1 at each claim, never taken back.
  epoch            INTEGER NOT NULL DEFAULT 0,
  -- The epoch that parked last, so that a repeated park is recognised.
  parked_epoch     INTEGER,
  -- Who holds it, or held it last; and the release that worker ran.
  worker_id        TEXT,
  release          TEXT,
  -- `attempt` counts executions from the first line; `failures` those that ended in an exception and spent a retry.
  -- `attempt_open` is 1 from the claim that began the attempt until it ends; a parked run's attempt stays open.
  attempt          INTEGER NOT NULL DEFAULT 0,
  attempt_open     INTEGER NOT NULL DEFAULT 0,
  attempt_ms       INTEGER,
  -- Of the open attempt: for how long it had been executed when it was parked or handed back; only for a `timeout`.
  spent_ms         INTEGER NOT NULL DEFAULT 0,
  failures         INTEGER NOT NULL DEFAULT 0,
  retries          INTEGER,
  -- Deaths of its worker while it was alone in flight: since the last progress, and in all.
  crashes          INTEGER NOT NULL DEFAULT 0,
  lifetime_crashes INTEGER NOT NULL DEFAULT 0,
  -- A suspect: for how long it had been running when its worker died with several runs in flight.
  suspect_ms       INTEGER,
  generation       INTEGER NOT NULL DEFAULT 1,
  created_ms       INTEGER NOT NULL,
  started_ms       INTEGER,
  claimed_ms       INTEGER,
  ended_ms         INTEGER,
  expires_at_ms    INTEGER,
  scheduled_for_ms INTEGER,
  scheduled_tz     TEXT,
  parent           INTEGER,
  reason           TEXT,
  warnings         TEXT,
  acknowledged     INTEGER NOT NULL DEFAULT 0,

  -- One expression instead of ten, and no list longer than two: SQLite evaluates all of it at each write of a row, and
  -- builds a little index for each longer list. It says I2, I3, I4, I6 and I9, state by state.
  -- The coalesce is there because a CHECK lets NULL pass.
  CHECK (coalesce(CASE status
    WHEN 'pending' THEN
      ended_ms IS NULL AND CASE lane
        WHEN 'ready' THEN run_at_ms IS NOT NULL AND parked IS NULL
        WHEN 'later' THEN (run_at_ms IS NOT NULL OR parked = 'wait')
                         AND (parked IS NULL OR parked IN ('sleep', 'wait'))
        WHEN 'limited' THEN run_at_ms IS NOT NULL AND parked IS NULL
        WHEN 'paused'  THEN run_at_ms IS NOT NULL AND parked IS NULL
        WHEN 'solo'  THEN run_at_ms IS NOT NULL AND parked IS NULL AND suspect_ms IS NOT NULL
        ELSE 0 END
    WHEN 'running' THEN
      lane IS NULL AND parked IS NULL AND ended_ms IS NULL AND worker_id IS NOT NULL AND epoch >= 1
      AND claimed_ms IS NOT NULL AND attempt_open
    ELSE
      ended_ms IS NOT NULL AND lane IS NULL AND parked IS NULL AND run_at_ms IS NULL AND NOT attempt_open
      AND CASE status WHEN 'succeeded' THEN 1 WHEN 'dead' THEN length(reason) > 0 WHEN 'cancelled' THEN length(reason) > 0
          ELSE 0 END
    END, 0)),
  -- I7
  CHECK (crashes < 3 OR (crashes = 3 AND status = 'dead')),
  CHECK (lifetime_crashes < 20 OR (lifetime_crashes = 20 AND status = 'dead')),
  CHECK (attempt <= epoch AND failures <= attempt)
) STRICT;

-- A claim reads the head of this index and nothing else, however many runs wait.
CREATE INDEX runs_ready   ON runs (workflow, priority DESC, run_at_ms) WHERE lane = 'ready';
CREATE INDEX runs_solo    ON runs (workflow, priority DESC, run_at_ms) WHERE lane = 'solo';
-- Those that wait for one permit, without a look at those that wait for others.
CREATE INDEX runs_limited ON runs (workflow, coalesce(concurrency_key, ''), priority DESC, run_at_ms)
  WHERE lane = 'limited';
CREATE INDEX runs_rate    ON runs (workflow, coalesce(rate_key, ''), priority DESC, run_at_ms)
  WHERE lane = 'limited';
CREATE INDEX runs_paused  ON runs (workflow, priority DESC, run_at_ms) WHERE lane = 'paused';
-- The next due time is its first entry.
CREATE INDEX runs_later   ON runs (run_at_ms) WHERE lane = 'later';
-- What a dead worker held, and what was running when a daemon died.
CREATE INDEX runs_running ON runs (worker_id) WHERE status = 'running';
-- E10: one unfinished run per key, whatever arrives at once.
CREATE UNIQUE INDEX runs_live_key ON runs (workflow, key) WHERE key IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX runs_key     ON runs (workflow, key) WHERE key IS NOT NULL;
CREATE INDEX runs_expiry  ON runs (expires_at_ms) WHERE expires_at_ms IS NOT NULL AND epoch = 0 AND ended_ms IS NULL;
CREATE INDEX runs_parent  ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_dead    ON runs (workflow) WHERE status = 'dead';

CREATE TABLE payloads (
  run     INTEGER PRIMARY KEY,
  payload TEXT NOT NULL
) STRICT;

-- The result of a succeeded run; a result of JSON null has no row.
CREATE TABLE results (
  run    INTEGER PRIMARY KEY,
  result TEXT NOT NULL
) STRICT;

-- How each attempt ended. `epoch` is the one that ended it, which is how a repeated `finish` finds its first answer.
CREATE TABLE attempts (
  run        INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  worker_id  TEXT,
  release    TEXT,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER NOT NULL,
  outcome    TEXT    NOT NULL CHECK (CASE outcome WHEN 'succeeded' THEN 1 WHEN 'failed' THEN 1 WHEN 'fatal' THEN 1
                                   WHEN 'stopped' THEN 1 WHEN 'cancelled' THEN 1 WHEN 'crashed' THEN 1 ELSE 0 END),
  -- After a failed attempt: when the next one was due. NULL: there was none.
  retry_at_ms INTEGER,
  error      TEXT,
  traceback  TEXT,
  PRIMARY KEY (run, epoch)
) STRICT, WITHOUT ROWID;

-- I8: a row is written once. `position` is the order of saving, and the cursor of `load_steps`.
CREATE TABLE steps (
  position   INTEGER PRIMARY KEY,
  run        INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  name       TEXT    NOT NULL,
  kind       TEXT    NOT NULL CHECK (CASE kind WHEN 'step' THEN 1 WHEN 'sleep' THEN 1 WHEN 'signal' THEN 1
                                             WHEN 'timeout' THEN 1 WHEN 'child' THEN 1 ELSE 0 END),
  attempt    INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  started_ms INTEGER,
  ended_ms   INTEGER NOT NULL,
  result     TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX steps_name ON steps (run, generation, name);

-- What a parked run waits for: a time, a signal, or whichever comes first. I5: its run is pending.
CREATE TABLE waiters (
  run       INTEGER PRIMARY KEY,
  step      TEXT    NOT NULL,
  event     TEXT,
  wake_at_ms INTEGER,
  parked_ms INTEGER NOT NULL,
  -- How many branches more can wake it, by rows of `wakers`.
  branches  INTEGER NOT NULL DEFAULT 0,
  CHECK (event IS NOT NULL OR wake_at_ms IS NOT NULL)
) STRICT;
CREATE INDEX waiters_event ON waiters (event) WHERE event IS NOT NULL;

-- What wakes a parked run besides the wait in its row (wakers.py): the ends of the runs that it gathers, each as '@run:'
-- and the run's id, and the signals that other branches of its handler wait for. A branch wakes it with its last row.
CREATE TABLE wakers (
  event  TEXT    NOT NULL,
  run    INTEGER NOT NULL,
  branch INTEGER NOT NULL,
  PRIMARY KEY (event, run, branch)
) STRICT, WITHOUT ROWID;
CREATE INDEX wakers_branch ON wakers (run, branch);

-- The mailbox: signals that no wait has taken. `run` is NULL for a v0 signal, which names no run.
CREATE TABLE signals (
  position   INTEGER PRIMARY KEY,
  run        INTEGER,
  event      TEXT    NOT NULL,
  payload    TEXT    NOT NULL,
  signal_id  TEXT,
  sent_ms    INTEGER NOT NULL,
  -- Kept after it was taken, so that the same signal_id sent again is recognised.
  taken_ms   INTEGER,
  CHECK (taken_ms IS NULL OR signal_id IS NOT NULL)
) STRICT;
CREATE INDEX signals_waiting ON signals (run, event) WHERE taken_ms IS NULL;
CREATE UNIQUE INDEX signals_once ON signals (run, event, signal_id) WHERE signal_id IS NOT NULL;
CREATE INDEX signals_sent ON signals (sent_ms);

-- Permits that are out, for the workflows that have limits (limits.py).
CREATE TABLE permits (
  workflow TEXT    NOT NULL,
  kind     TEXT    NOT NULL CHECK (kind IN ('running', 'rate')),
  key      TEXT    NOT NULL,
  n        INTEGER NOT NULL CHECK (n >= 0),
  PRIMARY KEY (workflow, kind, key)
) STRICT, WITHOUT ROWID;

-- Rate permits of claims, until they are free again.
CREATE TABLE cooling (
  position   INTEGER PRIMARY KEY,
  workflow   TEXT    NOT NULL,
  key        TEXT    NOT NULL,
  claimed_ms INTEGER NOT NULL,
  free_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX cooling_free ON cooling (free_at_ms);

-- What people have paused: a workflow, a group, or (of a workflow) a key; '' but for a key.
CREATE TABLE pauses (
  kind     TEXT    NOT NULL CHECK (kind IN ('workflow', 'group', 'key')),
  name     TEXT    NOT NULL,
  key      TEXT    NOT NULL,
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (kind, name, key),
  CHECK ((kind = 'key') = (key <> ''))
) STRICT, WITHOUT ROWID;

-- What people did: retries and acknowledgements.
CREATE TABLE interventions (
  position INTEGER PRIMARY KEY,
  run      INTEGER NOT NULL,
  at_ms    INTEGER NOT NULL,
  what     TEXT    NOT NULL,
  detail   TEXT
) STRICT;
CREATE INDEX interventions_run ON interventions (run);

-- How many runs of a workflow are in each lane or state: kept by the transaction that changes them, so that nothing counts rows.
CREATE TABLE counts (
  workflow TEXT    NOT NULL,
  state    TEXT    NOT NULL,
  n        INTEGER NOT NULL CHECK (n >= 0),
  PRIMARY KEY (workflow, state)
) STRICT, WITHOUT ROWID;

-- When what is due. The key is the workflow and the words of the schedule: a changed line is another schedule.
CREATE TABLE schedules (
  workflow   TEXT    NOT NULL,
  spec       TEXT    NOT NULL,
  options    TEXT    NOT NULL,
  -- The newest boundary that was dealt with: fired, skipped, or older than the schedule itself.
  mark_ms    INTEGER NOT NULL,
  next_ms    INTEGER NOT NULL,
  fired_ms   INTEGER,
  last_run   TEXT,
  -- A boundary that waits for the last run to end (overlap = "queue").
  queued_ms  INTEGER,
  skipped    INTEGER NOT NULL DEFAULT 0,
  paused     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workflow, spec)
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_due    ON schedules (next_ms) WHERE paused = 0;
CREATE INDEX schedules_mark   ON schedules (mark_ms);
CREATE INDEX schedules_queued ON schedules (queued_ms) WHERE queued_ms IS NOT NULL;

CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY,
  record    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE group_health (
  name   TEXT PRIMARY KEY,
  health TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE registries (
  release    TEXT NOT NULL,
  name       TEXT NOT NULL,
  registry   TEXT NOT NULL,
  saved_ms   INTEGER NOT NULL,
  PRIMARY KEY (release, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
