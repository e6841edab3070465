-- name: shown_run
-- One run as it is shown.
SELECT r.seq, r.id, r.workflow, r.status, r.parked, r.lane, r.attempt, r.retries, r.created_ms, r.run_at_ms,
       r.started_ms, r.ended_ms, r.key, r.priority, r.scheduled_for_ms, r.reason, r.warnings, r.acknowledged,
       r.generation, r.concurrency_key, r.rate_key, r.attempt_ms, r.attempt_open, r.claimed_ms, parent.id AS parent_id
  FROM runs AS r LEFT JOIN runs AS parent ON parent.seq = r.parent
 WHERE r.id = :id;

-- name: list_runs
-- Of the rows from :first to before :before, from the newest on, until the page is full. A filter that is NULL lets all
-- through; `held` '' means by nothing, and `blocked` are the workflows that cannot start now.
-- Filters that match little are given to list_runs_among instead, where there is an index.
SELECT r.seq, r.id, r.workflow, r.status, r.parked, r.lane, r.attempt, r.retries, r.created_ms, r.run_at_ms,
       r.started_ms, r.ended_ms, r.key, r.priority, r.scheduled_for_ms, r.reason, r.warnings, r.acknowledged,
       r.generation, r.concurrency_key, r.rate_key, parent.id AS parent_id
  FROM runs AS r LEFT JOIN runs AS parent ON parent.seq = r.parent
 WHERE r.seq >= :first AND r.seq < :before
   AND (:names IS NULL OR r.workflow IN (SELECT value FROM json_each(:names)))
   AND (:status IS NULL OR r.status = :status)
   AND (:held IS NULL OR :held = coalesce(r.parked, CASE
     WHEN r.lane = 'limited' THEN 'limited'
     WHEN r.lane = 'paused' THEN 'blocked'
     WHEN r.lane IN ('ready', 'solo') AND r.workflow IN (SELECT value FROM json_each(:blocked)) THEN 'blocked'
     END, ''))
   AND (:key IS NULL OR r.key = :key)
   AND (:since_ms IS NULL OR r.created_ms >= :since_ms)
   AND (:until_ms IS NULL OR r.created_ms < :until_ms)
 ORDER BY r.seq DESC LIMIT :limit;

-- name: list_runs_among
-- The same among few rows, found by an index; :among is a JSON list.
SELECT r.seq, r.id, r.workflow, r.status, r.parked, r.lane, r.attempt, r.retries, r.created_ms, r.run_at_ms,
       r.started_ms, r.ended_ms, r.key, r.priority, r.scheduled_for_ms, r.reason, r.warnings, r.acknowledged,
       r.generation, r.concurrency_key, r.rate_key, parent.id AS parent_id
  FROM runs AS r LEFT JOIN runs AS parent ON parent.seq = r.parent
 WHERE r.seq IN (SELECT value FROM json_each(:among))
   AND r.seq < :before
   AND (:names IS NULL OR r.workflow IN (SELECT value FROM json_each(:names)))
   AND (:status IS NULL OR r.status = :status)
   AND (:held IS NULL OR :held = coalesce(r.parked, CASE
     WHEN r.lane = 'limited' THEN 'limited'
     WHEN r.lane = 'paused' THEN 'blocked'
     WHEN r.lane IN ('ready', 'solo') AND r.workflow IN (SELECT value FROM json_each(:blocked)) THEN 'blocked'
     END, ''))
   AND (:key IS NULL OR r.key = :key)
   AND (:since_ms IS NULL OR r.created_ms >= :since_ms)
   AND (:until_ms IS NULL OR r.created_ms < :until_ms)
 ORDER BY r.seq DESC LIMIT :limit;

-- name: created_from
-- When the first run at this row or behind it was created: one step of a search by time.
SELECT seq, created_ms FROM runs WHERE seq >= :seq ORDER BY seq LIMIT 1;

-- name: stretches_of
-- Where runs of these workflows are, the newest first; :names is a JSON list.
SELECT DISTINCT stretch FROM stretches
 WHERE workflow IN (SELECT value FROM json_each(:names)) AND stretch <= :newest ORDER BY stretch DESC;

-- name: newest_with_key
-- Ended ones too.
SELECT id, seq FROM runs WHERE workflow = :workflow AND key = :key ORDER BY seq DESC LIMIT 1;

-- name: runs_with_key
SELECT seq FROM runs WHERE workflow = :workflow AND key = :key;

-- name: seqs_by_id
-- The ids that begin so; :high is the first text after all of them.
SELECT seq FROM runs WHERE id >= :low AND id < :high ORDER BY id DESC LIMIT :limit;

-- name: seqs_by_end_of_id
-- Ids differ in their ends, and no index knows those: among the newest :look_at runs only.
SELECT seq FROM (SELECT seq, id FROM runs ORDER BY seq DESC LIMIT :look_at)
 WHERE substr(id, -length(:ending)) = :ending ORDER BY seq DESC LIMIT :limit;

-- name: seqs_by_key
-- The keys of one workflow that begin so.
SELECT seq FROM runs WHERE key IS NOT NULL AND workflow = :workflow AND key >= :low AND key < :high
 ORDER BY key LIMIT :limit;

-- name: children_by_id
SELECT child.seq FROM runs AS parent JOIN runs AS child ON child.parent = parent.seq WHERE parent.id = :id;

-- name: pending_seqs
-- The lanes have an index each; NOT INDEXED would read every run that ever was.
SELECT seq FROM runs WHERE lane = 'ready'
UNION ALL SELECT seq FROM runs WHERE lane = 'later'
UNION ALL SELECT seq FROM runs WHERE lane = 'solo'
UNION ALL SELECT seq FROM runs WHERE lane = 'limited'
UNION ALL SELECT seq FROM runs WHERE lane = 'paused';

-- name: running_seqs
SELECT seq FROM runs WHERE status = 'running';

-- name: dead_seqs
SELECT seq FROM runs WHERE status = 'dead';

-- name: payload
SELECT payload FROM payloads WHERE run = :run;

-- name: result
SELECT result FROM results WHERE run = :run;

-- name: steps_of
-- In the order of saving.
SELECT name, kind, attempt, started_ms, ended_ms, result
  FROM steps WHERE run = :run AND generation = :generation ORDER BY position;

-- name: attempts_of
SELECT attempt, epoch, worker_id, release, started_ms, ended_ms, outcome, error, traceback
  FROM attempts WHERE run = :run ORDER BY epoch;

-- name: last_traceback
SELECT traceback FROM attempts WHERE run = :run AND traceback IS NOT NULL ORDER BY epoch DESC LIMIT 1;

-- name: mailbox_of
-- Signals that no wait has taken yet.
SELECT event, sent_ms FROM signals WHERE run = :run AND taken_ms IS NULL ORDER BY position;

-- name: interventions_of
SELECT i.at_ms, i.what, i.detail FROM runs JOIN interventions AS i ON i.run = runs.seq
 WHERE runs.id = :id ORDER BY i.position;

-- name: oldest_ready
-- The index of the lane has the highest priority first, so the oldest of all is the oldest of one of the priorities:
-- step from one to the next, and look at the head of each.
WITH RECURSIVE levels (priority) AS (
  SELECT max(priority) FROM runs WHERE lane = 'ready' AND workflow = :workflow
  UNION ALL
  SELECT (SELECT max(priority) FROM runs
           WHERE lane = 'ready' AND workflow = :workflow AND priority < levels.priority)
    FROM levels WHERE levels.priority IS NOT NULL
)
SELECT min((SELECT run_at_ms FROM runs
             WHERE lane = 'ready' AND workflow = :workflow AND priority = levels.priority
             ORDER BY run_at_ms LIMIT 1)) AS run_at_ms
  FROM levels WHERE levels.priority IS NOT NULL;
