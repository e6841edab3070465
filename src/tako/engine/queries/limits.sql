-- name: permits_out
-- How many permits of a kind are taken for a key. No row: none.
SELECT n FROM permits WHERE workflow = :workflow AND kind = :kind AND key = :key;

-- name: take_permit
-- Only after a look that there is one: there is one writer.
INSERT INTO permits (workflow, kind, key, n) VALUES (:workflow, :kind, :key, 1)
ON CONFLICT (workflow, kind, key) DO UPDATE SET n = n + 1;

-- name: give_permit
UPDATE permits SET n = n - 1 WHERE workflow = :workflow AND kind = :kind AND key = :key;

-- name: delete_permit
-- Keys come and go (tenants, orders): those with nothing out leave no row.
DELETE FROM permits WHERE workflow = :workflow AND kind = :kind AND key = :key AND n <= 0;

-- name: limited_by_concurrency
-- Who waits for a running permit of this key, first in line first. A workflow has few names.
SELECT seq, workflow, concurrency_key, rate_key, suspect_ms FROM runs
 WHERE lane = 'limited' AND workflow IN (SELECT value FROM json_each(:names))
   AND coalesce(concurrency_key, '') = :key AND coalesce(rate_key, '') = coalesce(:rate_key, rate_key, '')
 ORDER BY priority DESC, run_at_ms, seq LIMIT :limit;

-- name: limited_by_rate
-- The same for a rate permit.
SELECT seq, workflow, concurrency_key, rate_key, suspect_ms FROM runs
 WHERE lane = 'limited' AND workflow IN (SELECT value FROM json_each(:names)) AND coalesce(rate_key, '') = :key
 ORDER BY priority DESC, run_at_ms, seq LIMIT :limit;

-- name: admit_run
UPDATE runs SET lane = :lane WHERE seq = :seq AND lane = 'limited';

-- name: insert_cooling
-- A rate permit that is free again at a time.
INSERT INTO cooling (workflow, key, claimed_ms, free_at_ms) VALUES (:workflow, :key, :claimed_ms, :free_at_ms);

-- name: thawed
SELECT position, workflow, key FROM cooling WHERE free_at_ms <= :now_ms ORDER BY free_at_ms LIMIT :limit;

-- name: delete_cooling
DELETE FROM cooling WHERE position = :position;

-- name: last_cooling
-- The last entry of the index: a claim in the future is one that a clock put back has left behind.
SELECT claimed_ms FROM cooling ORDER BY free_at_ms DESC LIMIT 1;

-- name: recool
-- After a step of the clock back, which is rare: every entry may be read.
UPDATE cooling SET free_at_ms = :now_ms + free_at_ms - claimed_ms, claimed_ms = :now_ms WHERE claimed_ms > :now_ms;

-- name: delete_permits
-- Before they are counted anew.
DELETE FROM permits WHERE workflow = :workflow;

-- name: line_up_behind_limit
-- Suspects stay where they are: they run one at a time anyway.
UPDATE runs SET lane = :lane WHERE lane = 'ready' AND workflow = :workflow;

-- name: lift_limit
-- Whoever waited for a permit gets into line, a suspect into its own.
UPDATE runs SET lane = :lane
 WHERE lane = 'limited' AND workflow = :workflow AND (suspect_ms IS NULL) = (:lane = 'ready');

-- name: count_running_permits
-- Whoever is in line or runs has one; only suspects are in line when this is asked.
INSERT INTO permits (workflow, kind, key, n)
SELECT :workflow, 'running', coalesce(concurrency_key, ''), count(*) FROM runs
 WHERE workflow IN (SELECT value FROM json_each(:names))
   AND seq IN (SELECT seq FROM runs WHERE lane = 'ready' UNION ALL SELECT seq FROM runs WHERE lane = 'solo'
               UNION ALL SELECT seq FROM runs WHERE status = 'running')
 GROUP BY 3;

-- name: count_rate_permits
-- Whoever is in line has one, and those of claims cool.
INSERT INTO permits (workflow, kind, key, n)
SELECT :workflow, 'rate', key, count(*) FROM (
  SELECT coalesce(rate_key, '') AS key FROM runs
   WHERE workflow IN (SELECT value FROM json_each(:names))
     AND seq IN (SELECT seq FROM runs WHERE lane = 'ready' UNION ALL SELECT seq FROM runs WHERE lane = 'solo')
  UNION ALL SELECT key FROM cooling WHERE workflow = :workflow
) GROUP BY key;

-- name: limited_keys
-- For which keys anybody waits.
SELECT coalesce(concurrency_key, '') AS concurrency_key, coalesce(rate_key, '') AS rate_key, count(*) AS n FROM runs
 WHERE lane = 'limited' AND workflow IN (SELECT value FROM json_each(:names)) GROUP BY 1, 2;

-- name: wrong_permits
-- The numbers that are kept, against the rows.
WITH real (kind, key, n) AS (
  SELECT 'running', coalesce(concurrency_key, ''), count(*) FROM runs
   WHERE :has_running AND workflow IN (SELECT value FROM json_each(:names))
     AND (coalesce(lane, '') IN ('ready', 'solo') OR status = 'running') GROUP BY 2
  UNION ALL
  SELECT 'rate', key, count(*) FROM (
    SELECT coalesce(rate_key, '') AS key FROM runs
     WHERE :has_rate AND workflow IN (SELECT value FROM json_each(:names)) AND lane IN ('ready', 'solo')
    UNION ALL SELECT key FROM cooling WHERE :has_rate AND workflow = :workflow
  ) GROUP BY key
), both (kind, key, real, kept) AS (
  SELECT kind, key, n, 0 FROM real UNION ALL SELECT kind, key, 0, n FROM permits WHERE workflow = :workflow
)
SELECT kind, key, sum(real) AS real, sum(kept) AS kept FROM both GROUP BY kind, key HAVING sum(real) <> sum(kept);
