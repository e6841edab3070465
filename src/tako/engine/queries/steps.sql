-- name: insert_step
-- I8: the first result stays. A conflict is an answer: somebody saved this step before. By position, as `insert_run`.
INSERT INTO steps (run, generation, name, kind, result, attempt, epoch, started_ms, ended_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, generation, name) DO NOTHING;

-- name: forgive_crashes
-- A newly saved step is progress: it did not die where it died before.
UPDATE runs SET crashes = 0 WHERE seq = :seq;

-- name: find_step
-- By name, through the unique index.
SELECT position, result, epoch FROM steps WHERE run = :run AND generation = :generation AND name = :name;

-- name: step_positions
-- In the order of saving. Only the index is read: results can be large, and a page may not reach them.
SELECT position FROM steps WHERE run = :run AND generation = :generation AND position > :after ORDER BY position;

-- name: step
-- One at a time, until the page is full.
SELECT name, result FROM steps WHERE position = :position;

-- name: step_names
-- For the message that a step is not there, and for invariants.
SELECT name FROM steps WHERE run = :run AND generation = :generation ORDER BY position;

-- name: started_children
-- The children that this generation of a run has started.
SELECT position, result FROM steps WHERE run = :run AND generation = :generation AND kind = 'child' ORDER BY position;

-- name: copy_steps
-- A new generation begins with what was saved before the step that runs again. The old one is kept, and is never read
-- by a worker again.
INSERT INTO steps (run, generation, name, kind, result, attempt, epoch, started_ms, ended_ms)
SELECT run, generation + 1, name, kind, result, attempt, epoch, started_ms, ended_ms
  FROM steps WHERE run = :run AND generation = :generation AND position < :before
 ORDER BY position;
