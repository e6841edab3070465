-- name: oldest_runs
-- In the order of arrival from where the last batch ended; no index on the time of ending is paid for at each end.
SELECT runs.seq, runs.workflow, runs.status, runs.created_ms, runs.ended_ms, runs.acknowledged,
       parent.seq IS NOT NULL AND parent.status <> 'succeeded' AS is_needed
  FROM runs LEFT JOIN runs AS parent ON parent.seq = runs.parent
 WHERE runs.seq > :after ORDER BY runs.seq LIMIT :limit;

-- name: delete_run
-- And with it, by the statements below, all that is known of it.
DELETE FROM runs WHERE seq = :run;

-- name: delete_payload
DELETE FROM payloads WHERE run = :run;

-- name: delete_attempts
DELETE FROM attempts WHERE run = :run;

-- name: delete_steps
-- Through the unique index, all generations.
DELETE FROM steps WHERE run = :run;

-- name: delete_remembered_signals
-- Those that were taken and have a signal_id; what nobody took was deleted when the run ended.
DELETE FROM signals WHERE run = :run AND signal_id IS NOT NULL;

-- name: delete_interventions
DELETE FROM interventions WHERE run = :run;

-- name: forget_stretches
-- Those before the oldest run that is left. The list of workflows is short, so each is looked for by the key.
DELETE FROM stretches WHERE workflow IN (SELECT DISTINCT workflow FROM counts)
   AND stretch < (SELECT coalesce(min(seq), 0) FROM runs) / 1024;
