-- name: broken_invariants
-- Each part names the rule, the run and what is wrong with it. For tests and doctors: it reads everything.
SELECT 'I2' AS rule, id, 'status ' || status AS what FROM runs
 WHERE status NOT IN ('pending', 'running', 'succeeded', 'cancelled', 'dead')
UNION ALL
SELECT 'I3', id, 'running without worker, epoch or claim' FROM runs
 WHERE status = 'running' AND (worker_id IS NULL OR epoch < 1 OR claimed_ms IS NULL OR attempt < 1)
UNION ALL
SELECT 'I4', id, 'pending with neither a wake time nor a waiter' FROM runs
 WHERE status = 'pending' AND run_at_ms IS NULL AND NOT EXISTS (SELECT 1 FROM waiters WHERE run = runs.seq)
UNION ALL
SELECT 'I4', id, 'pending in the lane ' || coalesce(lane, 'NULL') FROM runs
 WHERE status = 'pending' AND (lane IS NULL OR lane NOT IN ('later', 'ready', 'solo', 'limited', 'paused'))
UNION ALL
SELECT 'I5', coalesce(runs.id, waiters.run), 'has a waiter and is ' || coalesce(runs.status, 'gone')
  FROM waiters LEFT JOIN runs ON runs.seq = waiters.run
 WHERE runs.status IS NOT 'pending' OR runs.parked IS NULL OR runs.lane <> 'later'
UNION ALL
SELECT 'I5', runs.id, 'wakes at another time than its waiter' FROM waiters JOIN runs ON runs.seq = waiters.run
 WHERE runs.run_at_ms IS NOT waiters.wake_at_ms
UNION ALL
SELECT 'I5', id, 'waits without a waiter' FROM runs
 WHERE parked = 'wait' AND NOT EXISTS (SELECT 1 FROM waiters WHERE run = runs.seq)
UNION ALL
SELECT 'I5', coalesce(runs.id, wakers.run), 'is woken by ' || wakers.event || ' without being parked'
  FROM wakers LEFT JOIN runs ON runs.seq = wakers.run LEFT JOIN waiters ON waiters.run = wakers.run
 WHERE coalesce(waiters.branches, 0) = 0
UNION ALL
SELECT 'L1', parent.id, 'waits for ' || wakers.event || ', which has ended'
  FROM wakers JOIN runs AS parent ON parent.seq = wakers.run LEFT JOIN runs ON runs.id = substr(wakers.event, 6)
 WHERE wakers.event LIKE '@run:%' AND runs.ended_ms IS NOT NULL OR wakers.event LIKE '@run:%' AND runs.id IS NULL
UNION ALL
SELECT 'I6', id, 'ended with a timer, a lane or an open attempt' FROM runs
 WHERE ended_ms IS NOT NULL AND (run_at_ms IS NOT NULL OR lane IS NOT NULL OR parked IS NOT NULL OR attempt_open)
UNION ALL
SELECT 'I6', id, 'ended with signals in its mailbox' FROM runs
 WHERE ended_ms IS NOT NULL AND EXISTS (SELECT 1 FROM signals WHERE run = runs.seq AND taken_ms IS NULL)
UNION ALL
SELECT 'I6', id, 'is ' || status || ' and has ended_ms ' || coalesce(ended_ms, 'NULL') FROM runs
 WHERE (ended_ms IS NULL) = (status IN ('succeeded', 'cancelled', 'dead'))
UNION ALL
SELECT 'I7', id, crashes || ' crashes, ' || lifetime_crashes || ' in all, and ' || status FROM runs
 WHERE crashes > 3 OR lifetime_crashes > 20 OR ((crashes = 3 OR lifetime_crashes = 20) AND status <> 'dead')
UNION ALL
SELECT 'I8', coalesce(runs.id, steps.run), 'saved a step in generation ' || steps.generation
  FROM steps LEFT JOIN runs ON runs.seq = steps.run WHERE runs.id IS NULL OR steps.generation > runs.generation
UNION ALL
SELECT 'I9', id, status || ' without a reason' FROM runs
 WHERE status IN ('dead', 'cancelled') AND coalesce(reason, '') = ''
UNION ALL
SELECT 'I1', id, 'has no payload' FROM runs WHERE NOT EXISTS (SELECT 1 FROM payloads WHERE run = runs.seq)
UNION ALL
SELECT 'E10', max(id), count(*) || ' unfinished runs with the key ' || key FROM runs
 WHERE key IS NOT NULL AND ended_ms IS NULL GROUP BY workflow, key HAVING count(*) > 1;

-- name: wrong_counts
-- The numbers that are kept, against the rows.
WITH real (workflow, state, n) AS (
  SELECT workflow, coalesce(lane, status), count(*) FROM runs GROUP BY 1, 2
  UNION ALL
  SELECT workflow, 'unseen', count(*) FROM runs WHERE status = 'dead' AND acknowledged = 0 GROUP BY 1
), both (workflow, state, real, kept) AS (
  SELECT workflow, state, n, 0 FROM real UNION ALL SELECT workflow, state, 0, n FROM counts
)
SELECT workflow, state, sum(real) AS real, sum(kept) AS kept
  FROM both GROUP BY workflow, state HAVING sum(real) <> sum(kept);

-- name: all_epochs
SELECT id, epoch FROM runs;

-- name: all_steps
SELECT runs.id, steps.generation, steps.name, steps.result FROM steps JOIN runs ON runs.seq = steps.run;
