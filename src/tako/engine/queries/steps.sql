-- name: step_positions
-- In the order of saving. Only the index is read: results can be large, and a page may not reach them.
SELECT position FROM steps WHERE run = :run AND generation = :generation AND position > :after ORDER BY position;

-- name: step
SELECT name, result FROM steps WHERE position = :position;
