-- name: all_schedules
SELECT workflow, spec, options, mark_ms, next_ms, fired_ms, last_run, queued_ms, skipped, paused
  FROM schedules ORDER BY workflow, spec;

-- name: insert_schedule
-- A new schedule begins now: it never fires for the past. One that is there keeps its mark; its options may change.
INSERT INTO schedules (workflow, spec, options, mark_ms, next_ms, paused)
VALUES (:workflow, :spec, :options, :mark_ms, :next_ms, :paused)
ON CONFLICT (workflow, spec) DO UPDATE SET options = excluded.options, next_ms = excluded.next_ms;

-- name: delete_schedule
DELETE FROM schedules WHERE workflow = :workflow AND spec = :spec;

-- name: due_schedules
-- Through the index of due times.
SELECT workflow, spec, options, mark_ms, next_ms, last_run, queued_ms FROM schedules
 WHERE next_ms <= :now_ms AND paused = 0 ORDER BY next_ms, workflow, spec;

-- name: queued_schedules
-- Those whose run waits for the run before to end; very few.
SELECT workflow, spec, options, mark_ms, next_ms, last_run, queued_ms FROM schedules WHERE queued_ms IS NOT NULL;

-- name: marks_ahead
-- None, unless the clock was put back.
SELECT workflow, spec, options, mark_ms, next_ms, last_run, queued_ms FROM schedules WHERE mark_ms > :now_ms;

-- name: mark_schedule
-- In the transaction that makes the run, so that no crash can make a boundary fire twice, or not at all.
UPDATE schedules SET mark_ms = :mark_ms, next_ms = :next_ms, skipped = skipped + :skipped
 WHERE workflow = :workflow AND spec = :spec;

-- name: fired_schedule
UPDATE schedules SET fired_ms = :fired_ms, last_run = :last_run WHERE workflow = :workflow AND spec = :spec;

-- name: skip_boundary
UPDATE schedules SET skipped = skipped + 1 WHERE workflow = :workflow AND spec = :spec;

-- name: queue_schedule
-- A boundary that waits; NULL when it has been fired.
UPDATE schedules SET queued_ms = :queued_ms, skipped = skipped + :skipped WHERE workflow = :workflow AND spec = :spec;

-- name: pause_schedule
UPDATE schedules SET paused = :paused, mark_ms = :mark_ms, next_ms = :next_ms
 WHERE workflow = :workflow AND spec = :spec;

-- name: next_schedule
SELECT min(next_ms) AS next_ms FROM schedules WHERE paused = 0;
