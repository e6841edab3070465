-- name: insert_run
-- Asking for the same id again is not an error: the row that is there stays as it is.
INSERT INTO runs (seq, id, workflow, status, lane, priority, run_at_ms, key, retries, created_ms, expires_at_ms,
                  scheduled_for_ms, parent)
VALUES (:seq, :id, :workflow, 'pending', :lane, :priority, :run_at_ms, :key, :retries, :created_ms, :expires_at_ms,
        :scheduled_for_ms, :parent)
ON CONFLICT (id) DO NOTHING;

-- name: insert_payload
INSERT INTO payloads (run, payload) VALUES (:seq, :payload);

-- name: run_seqs
-- Which of these ids are there, and as which row; :ids is a JSON list.
SELECT id, seq FROM runs WHERE id IN (SELECT value FROM json_each(:ids));

-- name: live_key
-- The unfinished run that has this key.
SELECT id FROM runs WHERE workflow = :workflow AND key = :key AND ended_ms IS NULL;

-- name: ready_heads
-- The first runs in line for one workflow. Their lane says that they are due: `promote` moved them when their time came.
SELECT r.seq, r.id, r.workflow, r.priority, r.run_at_ms, r.key, r.epoch, r.attempt, r.attempt_open, r.retries,
       r.generation, r.created_ms, r.expires_at_ms, r.scheduled_for_ms
  FROM runs AS r
 WHERE r.lane = 'ready' AND r.workflow = :workflow
 ORDER BY r.priority DESC, r.run_at_ms, r.seq
 LIMIT :limit;

-- name: solo_heads
-- The same for suspects.
SELECT r.seq, r.id, r.workflow, r.priority, r.run_at_ms, r.key, r.epoch, r.attempt, r.attempt_open, r.retries,
       r.generation, r.created_ms, r.expires_at_ms, r.scheduled_for_ms
  FROM runs AS r
 WHERE r.lane = 'solo' AND r.workflow = :workflow
 ORDER BY r.priority DESC, r.run_at_ms, r.seq
 LIMIT :limit;

-- name: payloads
SELECT run, payload FROM payloads WHERE run IN (SELECT value FROM json_each(:seqs));

-- name: claim_run
-- The epoch is the fencing token; an attempt that was parked or handed back goes on, any other is a new one.
-- All right-hand sides see the row as it was.
UPDATE runs
   SET status = 'running', lane = NULL, run_at_ms = NULL, epoch = epoch + 1,
       worker_id = :worker_id, release = :release, claimed_ms = :now_ms,
       started_ms = coalesce(started_ms, :now_ms),
       attempt_ms = CASE WHEN attempt_open THEN attempt_ms ELSE :now_ms END,
       attempt = attempt + 1 - attempt_open, attempt_open = 1
 WHERE seq = :seq AND status = 'pending';

-- name: succeed_run
-- The whole guard in one statement, because nearly every run ends here.
UPDATE runs
   SET status = 'succeeded', ended_ms = :now_ms, attempt_open = 0, crashes = 0, suspect_ms = NULL, warnings = coalesce(:warnings, warnings)
 WHERE id = :id AND status = 'running' AND epoch = coalesce(:epoch, epoch) AND worker_id = :worker_id
RETURNING seq, workflow, epoch, attempt, attempt_ms, release, parent;

-- name: held_run
-- What a worker's write is judged by.
SELECT seq, id, workflow, status, epoch, worker_id, release, attempt, attempt_ms, failures, retries, crashes, generation,
       suspect_ms, parked_epoch, parent
  FROM runs WHERE id = :id;

-- name: fail_run
-- Back to pending for the next attempt.
UPDATE runs
   SET status = 'pending', lane = :lane, run_at_ms = :run_at_ms, attempt_open = 0, failures = failures + 1,
       suspect_ms = NULL, reason = :reason, warnings = coalesce(:warnings, warnings)
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: end_run
-- Ends a running run as cancelled or dead.
UPDATE runs
   SET status = :status, ended_ms = :now_ms, reason = :reason, attempt_open = 0, failures = failures + :failed,
       suspect_ms = NULL, warnings = coalesce(:warnings, warnings)
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: insert_attempt
INSERT INTO attempts (run, epoch, attempt, worker_id, release, started_ms, ended_ms, outcome, retry_at_ms, error, traceback)
VALUES (:run, :epoch, :attempt, :worker_id, :release, :started_ms, :ended_ms, :outcome, :retry_at_ms, :error, :traceback);

-- name: insert_result
INSERT INTO results (run, result) VALUES (:run, :result);

-- name: ended_attempt
-- How an epoch ended, for a `finish` that is said twice.
SELECT outcome, retry_at_ms, worker_id FROM attempts WHERE run = :run AND epoch = :epoch;
