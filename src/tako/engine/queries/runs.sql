-- name: insert_plain_run
-- A run without what few runs have. Asking for the same id again is not an error: the row that is there stays as it is.
-- By position, as an exception: this is run a hundred thousand times a second, and finding names takes a third of the
-- time of inserting. For the same reason nothing is bound that would be NULL: one takes as long as three numbers.
INSERT INTO runs (seq, id, workflow, lane, priority, run_at_ms, retries, created_ms, status)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending')
ON CONFLICT (id) DO NOTHING;

-- name: insert_run
-- The same with everything that a run may have.
INSERT INTO runs (seq, id, workflow, lane, priority, run_at_ms, retries, created_ms, key, expires_at_ms,
                  scheduled_for_ms, scheduled_tz, parent, concurrency_key, rate_key, status)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending')
ON CONFLICT (id) DO NOTHING;

-- name: insert_payload
-- In a table of its own: a run's row is rewritten at each change of state, its payload never. By position, as above.
INSERT INTO payloads (run, payload) VALUES (?, ?);

-- name: insert_traced_payload
INSERT INTO payloads (run, payload, trace) VALUES (?, ?, ?);

-- name: run_seqs
-- Which of these ids are there, and as which row; :ids is a JSON list.
SELECT id, seq FROM runs WHERE id IN (SELECT value FROM json_each(:ids));

-- name: live_key
-- The unfinished run that has this key; the unique index says that there is at most one.
SELECT id FROM runs WHERE workflow = :workflow AND key = :key AND ended_ms IS NULL;

-- name: held_run
-- What a worker's write is judged by, and what the rules need to know of a run.
SELECT seq, id, workflow, status, lane, key, epoch, worker_id, release, attempt, attempt_open, attempt_ms, failures,
       retries, crashes, lifetime_crashes, suspect_ms, started_ms, claimed_ms, generation, parked_epoch, parent, reason,
       acknowledged, concurrency_key, rate_key
  FROM runs WHERE id = :id;

-- name: held_runs
-- The same for many whose workers save or end at once; :ids is a JSON list.
SELECT seq, id, workflow, status, epoch, worker_id, release, attempt, attempt_ms, started_ms, crashes, generation,
       concurrency_key
  FROM runs WHERE id IN (SELECT value FROM json_each(:ids));

-- name: run_by_seq
-- The same, for another table's reference.
SELECT seq, id, workflow, status, lane, key, epoch, worker_id, release, attempt, attempt_open, attempt_ms, failures,
       retries, crashes, lifetime_crashes, suspect_ms, started_ms, claimed_ms, generation, parked_epoch, parent, reason,
       acknowledged, concurrency_key, rate_key
  FROM runs WHERE seq = :seq;

-- name: ready_heads
-- The first in line of one workflow. The lane says that they are due: `promote_run` moved them when their time came,
-- so the walk along the index ends after :limit rows, however many wait and whatever they wait for.
SELECT seq, id, workflow, priority, run_at_ms, key, epoch, attempt, attempt_open, retries, generation, created_ms,
       expires_at_ms, scheduled_for_ms, scheduled_tz, rate_key, spent_ms, crashes
  FROM runs
 WHERE lane = 'ready' AND workflow = :workflow
 ORDER BY priority DESC, run_at_ms, seq
 LIMIT :limit;

-- name: solo_heads
-- The same for suspects. A statement of its own, because a partial index is used only if its condition is written out.
SELECT seq, id, workflow, priority, run_at_ms, key, epoch, attempt, attempt_open, retries, generation, created_ms,
       expires_at_ms, scheduled_for_ms, scheduled_tz, rate_key, spent_ms, crashes
  FROM runs
 WHERE lane = 'solo' AND workflow = :workflow
 ORDER BY priority DESC, run_at_ms, seq
 LIMIT :limit;

-- name: payloads
-- Of the runs that were taken only; :seqs is a JSON list.
SELECT run, payload, trace FROM payloads WHERE run IN (SELECT value FROM json_each(:seqs));

-- name: claim_run
-- The epoch is the fencing token. An attempt that was parked, handed back or cut short by a crash goes on under its
-- number; any other claim begins a new one. All right-hand sides see the row as it was.
UPDATE runs
   SET status = 'running', lane = NULL, run_at_ms = NULL, epoch = epoch + 1,
       worker_id = ?2, release = ?3, claimed_ms = ?4,
       started_ms = coalesce(started_ms, ?4),
       attempt_ms = CASE WHEN attempt_open THEN coalesce(attempt_ms, ?4) ELSE ?4 END,
       attempt = attempt + 1 - attempt_open, attempt_open = 1
 WHERE seq = ?1 AND status = 'pending';

-- name: due_runs
-- Read along the index of the lane, the longest due first.
SELECT seq, id, workflow, parked, generation, attempt, epoch, crashes, key, concurrency_key, rate_key
  FROM runs WHERE lane = 'later' AND run_at_ms <= :now_ms
 ORDER BY run_at_ms LIMIT :limit;

-- name: promote_run
-- `run_at_ms` stays: it is the run's place among those that are in line.
UPDATE runs SET lane = :lane, parked = NULL WHERE seq = :seq AND lane = 'later';

-- name: expired_runs
-- Only before the first claim: what has begun is finished.
SELECT id FROM runs
 WHERE expires_at_ms <= :now_ms AND expires_at_ms IS NOT NULL AND epoch = 0 AND ended_ms IS NULL
 ORDER BY expires_at_ms LIMIT :limit;

-- name: next_due
-- The first entry of three indexes.
SELECT min(due_ms) AS due_ms FROM (
  SELECT min(run_at_ms) AS due_ms FROM runs WHERE lane = 'later'
  UNION ALL
  SELECT min(expires_at_ms) FROM runs WHERE expires_at_ms IS NOT NULL AND epoch = 0 AND ended_ms IS NULL
  UNION ALL
  SELECT min(free_at_ms) FROM cooling
);

-- name: succeed_run
-- The whole guard in one statement, because nearly every run ends here. A v0 worker sends no epoch.
UPDATE runs
   SET status = 'succeeded', ended_ms = :now_ms, attempt_open = 0, crashes = 0, suspect_ms = NULL, reason = NULL,
       warnings = coalesce(:warnings, warnings)
 WHERE id = :id AND status = 'running' AND epoch = coalesce(:epoch, epoch) AND worker_id = :worker_id
RETURNING seq, id, workflow, epoch, attempt, attempt_ms, started_ms, worker_id, release, parent, concurrency_key;

-- name: succeed_held
-- The same for one of many, whose guard was judged by `held_runs` in this transaction. By position, as `insert_run`.
UPDATE runs
   SET status = 'succeeded', ended_ms = ?, attempt_open = 0, crashes = 0, suspect_ms = NULL, reason = NULL
 WHERE seq = ?;

-- name: fail_run
-- Back to pending for the next attempt. It ran to its end without killing its worker: no longer a suspect.
UPDATE runs
   SET status = 'pending', lane = :lane, run_at_ms = :run_at_ms, attempt_open = 0, failures = failures + 1,
       spent_ms = 0, suspect_ms = NULL, reason = :reason, warnings = coalesce(:warnings, warnings)
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: end_run
-- Ends a running run as cancelled or dead.
UPDATE runs
   SET status = :status, ended_ms = :now_ms, reason = :reason, attempt_open = 0, failures = failures + :failed,
       suspect_ms = NULL, warnings = coalesce(:warnings, warnings)
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: cancel_run
-- Ends a pending run.
UPDATE runs
   SET status = 'cancelled', ended_ms = :now_ms, reason = :reason, lane = NULL, parked = NULL, run_at_ms = NULL,
       attempt_open = 0, suspect_ms = NULL
 WHERE seq = :seq AND status = 'pending';

-- name: park_run
-- The attempt stays open and goes on at the next claim. Reaching a sleep or a wait is progress: crashes count anew.
UPDATE runs
   SET status = 'pending', lane = :lane, run_at_ms = :run_at_ms, parked = :parked, parked_epoch = epoch, crashes = 0,
       suspect_ms = NULL, spent_ms = coalesce(:spent_ms, spent_ms)
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: wake_run
-- What it waited for is there.
UPDATE runs SET lane = :lane, parked = NULL, run_at_ms = :now_ms
 WHERE seq = :seq AND status = 'pending' AND lane = 'later';

-- name: retry_run
-- An operator's: everything that counted towards the end counts from zero; the epoch goes on, it never repeats.
UPDATE runs
   SET status = 'pending', lane = :lane, run_at_ms = :now_ms, ended_ms = NULL, reason = NULL, acknowledged = 0,
       failures = 0, crashes = 0, lifetime_crashes = 0, spent_ms = 0, expires_at_ms = NULL, generation = :generation
 WHERE seq = :seq AND ended_ms IS NOT NULL;

-- name: add_warning
-- Warnings are a JSON list of texts.
UPDATE runs SET warnings = json_insert(coalesce(warnings, '[]'), '$[#]', :warning) WHERE seq = :seq;

-- name: unfinished_descendants
-- Children, their children and so on. Parents end before children here, so that none is started meanwhile.
WITH RECURSIVE family (seq, id, depth) AS (
  SELECT seq, id, 1 FROM runs WHERE parent = :run
  UNION ALL
  SELECT child.seq, child.id, family.depth + 1 FROM family JOIN runs AS child ON child.parent = family.seq
)
SELECT family.id FROM family JOIN runs USING (seq) WHERE runs.ended_ms IS NULL ORDER BY family.depth, family.seq;

-- name: failed_runs
-- Of these, children of :parent that ended without success; :ids is a JSON list.
SELECT id FROM runs
 WHERE id IN (SELECT value FROM json_each(:ids)) AND parent = :parent AND status IN ('dead', 'cancelled') ORDER BY seq;

-- name: unseen_runs
-- Dead runs that nobody has acknowledged, of one workflow or of all.
SELECT seq, workflow FROM runs
 WHERE status = 'dead' AND acknowledged = 0 AND workflow = coalesce(:workflow, workflow);

-- name: unseen_family
-- Of these runs and all that descends from them.
WITH RECURSIVE family (seq) AS (
  SELECT seq FROM runs WHERE id IN (SELECT value FROM json_each(:ids))
  UNION
  SELECT child.seq FROM family JOIN runs AS child ON child.parent = family.seq
)
SELECT runs.seq, runs.workflow FROM family JOIN runs USING (seq) WHERE status = 'dead' AND acknowledged = 0;

-- name: ack_run
-- Somebody has seen it.
UPDATE runs SET acknowledged = 1 WHERE seq = :seq AND status = 'dead';

-- name: insert_attempt
-- Once per epoch that ended an attempt, so a second end of the same epoch is an error here and not a second row.
INSERT INTO attempts (run, epoch, attempt, worker_id, release, started_ms, ended_ms, outcome, retry_at_ms, error,
                      traceback)
VALUES (:run, :epoch, :attempt, :worker_id, :release, :started_ms, :ended_ms, :outcome, :retry_at_ms, :error,
        :traceback);

-- name: insert_success
-- The same for many that succeeded, by position.
INSERT INTO attempts (run, epoch, attempt, worker_id, release, started_ms, ended_ms, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, 'succeeded');

-- name: ended_attempt
-- How an epoch ended, for a `finish` that is said twice.
SELECT outcome, retry_at_ms, worker_id FROM attempts WHERE run = :run AND epoch = :epoch;

-- name: insert_result
-- A result of JSON null has no row. By position.
INSERT INTO results (run, result) VALUES (?, ?);

-- name: delete_result
-- Before an operator's retry, which will have a result of its own.
DELETE FROM results WHERE run = :run;

-- name: insert_intervention
-- E6: what a person did to a run is kept with it.
INSERT INTO interventions (run, at_ms, what, detail) VALUES (:run, :at_ms, :what, :detail);
