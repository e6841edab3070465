-- name: insert_waiter
-- A run waits for one thing at a time: its row is the key.
INSERT INTO waiters (run, step, event, wake_at_ms, parked_ms, branches)
VALUES (:run, :step, :event, :wake_at_ms, :parked_ms, :branches);

-- name: waiter
-- What a run waits for.
SELECT step, event, wake_at_ms, parked_ms, branches FROM waiters WHERE run = :run;

-- name: delete_waiter
-- The wait is resolved, or its run ended.
DELETE FROM waiters WHERE run = :run;

-- name: insert_waker
INSERT INTO wakers (event, run, branch) VALUES (:event, :run, :branch);

-- name: delete_wakers
-- The run goes on, or has ended: nothing else need wake it.
DELETE FROM wakers WHERE run = :run;

-- name: take_wakers
-- A run has ended: it wakes nobody twice.
DELETE FROM wakers WHERE event = :event RETURNING run, branch;

-- name: branch_left
-- Whether something of this branch is still waited for.
SELECT 1 FROM wakers WHERE run = :run AND branch = :branch LIMIT 1;

-- name: waker
-- Whether another branch of this run waits for the signal.
SELECT 1 FROM wakers WHERE event = :event AND run = :run LIMIT 1;

-- name: woken_by
-- Those with another branch that waits for this name.
SELECT DISTINCT runs.id FROM wakers JOIN runs ON runs.seq = wakers.run WHERE wakers.event = :event;

-- name: gathered_runs
-- What a run still waits for, for people.
SELECT substr(event, 6) AS id FROM wakers WHERE run = :run AND event LIKE '@run:%';

-- name: waits_for
-- Whether these runs, or any that they wait for, wait for :id, or are it. Follows rows of `wakers`, of which runs that
-- do not gather have none.
WITH RECURSIVE awaited (id) AS (
  SELECT value FROM json_each(:ids)
  UNION
  SELECT substr(wakers.event, 6)
    FROM awaited JOIN runs ON runs.id = awaited.id JOIN wakers ON wakers.run = runs.seq
   WHERE wakers.event LIKE '@run:%'
)
SELECT 1 FROM awaited WHERE id = :id LIMIT 1;

-- name: unfinished_runs
-- Of these; :ids is a JSON list.
SELECT id FROM runs WHERE id IN (SELECT value FROM json_each(:ids)) AND ended_ms IS NULL;

-- name: outcome
-- How these runs ended, or that they did not, with what a parent is told of it. Each by its primary key.
SELECT r.id, r.workflow, r.status, r.reason, results.result,
       CASE r.status WHEN 'dead' THEN (SELECT traceback FROM attempts
         WHERE run = r.seq AND traceback IS NOT NULL ORDER BY epoch DESC LIMIT 1) END AS traceback
  FROM runs AS r LEFT JOIN results ON results.run = r.seq
 WHERE r.id = :id;

-- name: waiting_for
-- v0: everybody who waits for this name, the longest waiting first.
SELECT runs.id FROM waiters JOIN runs ON runs.seq = waiters.run
 WHERE waiters.event = :event ORDER BY waiters.parked_ms, runs.seq;

-- name: insert_signal
-- Into the mailbox; or, with `taken_ms`, only remembered, so that the same signal_id is recognised.
INSERT INTO signals (run, event, payload, signal_id, sent_ms, taken_ms)
VALUES (:run, :event, :payload, :signal_id, :sent_ms, :taken_ms);

-- name: find_signal
-- The same signal_id counts once.
SELECT taken_ms FROM signals WHERE run = :run AND event = :event AND signal_id = :signal_id;

-- name: first_signal
-- In the order of sending.
SELECT position, payload, signal_id FROM signals WHERE run = :run AND event = :event AND taken_ms IS NULL
 ORDER BY position LIMIT 1;

-- name: first_v0_signal
-- One that names no run goes to the first wait for its name.
SELECT position, payload, signal_id FROM signals WHERE run IS NULL AND event = :event AND taken_ms IS NULL
 ORDER BY position LIMIT 1;

-- name: take_signal
-- One with a signal_id is remembered until it is MAILBOX_MS old; its payload has become a step's result. One without is
-- deleted instead, so that a run that takes thousands finds the next one at once.
UPDATE signals SET taken_ms = :now_ms, payload = '' WHERE position = :position;

-- name: left_behind
-- Asked at the end of each run, so it must cost next to nothing when there is nothing: signals that no wait has taken,
-- and (NULL) whether somebody waits for this end.
SELECT event FROM signals WHERE run = :run AND taken_ms IS NULL
UNION ALL
SELECT NULL FROM wakers WHERE event = :ended;

-- name: anything_left_behind
-- The same of many at once, which nearly always is: nothing. JSON lists.
SELECT 1 FROM signals WHERE run IN (SELECT value FROM json_each(:runs)) AND taken_ms IS NULL
UNION ALL
SELECT 1 FROM wakers WHERE event IN (SELECT value FROM json_each(:ends))
LIMIT 1;

-- name: delete_unconsumed_signals
-- Nobody will take them any more.
DELETE FROM signals WHERE run = :run AND taken_ms IS NULL;

-- name: old_signals
-- Past their time, and whose they were.
SELECT signals.position, signals.event, signals.taken_ms, runs.id
  FROM signals LEFT JOIN runs ON runs.seq = signals.run
 WHERE signals.sent_ms < :before_ms ORDER BY signals.sent_ms LIMIT :limit;

-- name: delete_signal
-- One that is past its time.
DELETE FROM signals WHERE position = :position;
