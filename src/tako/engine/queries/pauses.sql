-- name: all_pauses
-- A handful: people make them.
SELECT kind, name, key, since_ms FROM pauses ORDER BY kind, name, key;

-- name: insert_pause
-- Pausing again changes nothing: it has been paused since the first time.
INSERT INTO pauses (kind, name, key, since_ms) VALUES (:kind, :name, :key, :since_ms)
ON CONFLICT (kind, name, key) DO NOTHING;

-- name: delete_pause
DELETE FROM pauses WHERE kind = :kind AND name = :name AND key = :key;

-- name: due_with_key
-- Who is due and has this key: read once, when it is paused, with all that is due of the workflow. Those that wait for
-- a permit come first, so that none of them gets into line by what another one gives back.
SELECT seq, workflow, lane, concurrency_key, rate_key FROM runs
 WHERE seq IN (SELECT seq FROM runs WHERE lane = 'limited' AND workflow IN (SELECT value FROM json_each(:names))
               UNION ALL
               SELECT seq FROM runs WHERE lane = 'ready' AND workflow IN (SELECT value FROM json_each(:names))
               UNION ALL
               SELECT seq FROM runs WHERE lane = 'solo' AND workflow IN (SELECT value FROM json_each(:names)))
   AND :key IN (key, concurrency_key, rate_key)
 ORDER BY lane = 'limited' DESC, seq;

-- name: paused_runs
-- Who is held back by a key, first in line first.
SELECT seq, id, workflow, key, concurrency_key, rate_key, suspect_ms FROM runs
 WHERE lane = 'paused' AND workflow IN (SELECT value FROM json_each(:names))
 ORDER BY priority DESC, run_at_ms, seq;

-- name: held_by_key
-- The lane has those alone that people hold back.
SELECT count(*) AS n FROM runs
 WHERE lane = 'paused' AND workflow IN (SELECT value FROM json_each(:names))
   AND :key IN (key, concurrency_key, rate_key);

-- name: relane_run
-- From one lane of those that are due to another.
UPDATE runs SET lane = :lane WHERE seq = :seq AND lane IN ('ready', 'solo', 'limited', 'paused');

-- name: due_runs_of_all
-- What is due, with its keys. For invariants.
SELECT id, workflow, lane, key, concurrency_key, rate_key FROM runs
 WHERE status = 'pending' AND lane IN ('ready', 'solo', 'limited', 'paused');
