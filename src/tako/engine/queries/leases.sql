-- name: runs_of_worker
-- What a worker holds, whatever the leases in memory say.
SELECT seq, id, workflow, status, lane, key, epoch, worker_id, release, attempt, attempt_open, attempt_ms, failures,
       retries, crashes, lifetime_crashes, suspect_ms, started_ms, claimed_ms, generation, parked_epoch, parent, reason,
       acknowledged, concurrency_key, rate_key
  FROM runs WHERE status = 'running' AND worker_id = :worker_id ORDER BY seq;

-- name: workers_with_runs
-- Read once, at the start of a daemon.
SELECT DISTINCT worker_id FROM runs WHERE status = 'running' ORDER BY worker_id;

-- name: running_runs
-- Likewise, in the order of the index.
SELECT id, epoch, worker_id FROM runs WHERE status = 'running' ORDER BY worker_id, seq;

-- name: release_run
-- Back into line, under the same attempt: neither a hand-back nor a crash spends a retry. After a crash the attempt's
-- clock starts anew with the next claim, since what ended has a row of its own.
UPDATE runs
   SET status = 'pending', lane = :lane, run_at_ms = :now_ms, suspect_ms = :suspect_ms,
       crashes = crashes + :crashed, lifetime_crashes = lifetime_crashes + :crashed,
       attempt_ms = CASE WHEN :cut_short THEN NULL ELSE attempt_ms END,
       spent_ms = CASE WHEN :cut_short THEN 0 ELSE coalesce(:spent_ms, spent_ms) END
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: count_last_crash
-- The crash that reaches a cap ends the run.
UPDATE runs
   SET status = 'dead', ended_ms = :now_ms, reason = :reason, attempt_open = 0, suspect_ms = NULL,
       crashes = crashes + 1, lifetime_crashes = lifetime_crashes + 1
 WHERE seq = :seq AND status = 'running' AND epoch = :epoch;

-- name: cleared_suspects
-- Running, so there are few; the index of running runs finds them.
SELECT seq, id FROM runs
 WHERE status = 'running' AND suspect_ms IS NOT NULL AND :now_ms - claimed_ms > suspect_ms + :grace_ms;

-- name: clear_suspect
UPDATE runs SET suspect_ms = NULL WHERE seq = :seq AND status = 'running';
