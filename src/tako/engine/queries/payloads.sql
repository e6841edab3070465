-- name: waiting_payloads
-- What runs of a workflow carry that wait for a claim, a time or a signal; at most :limit of each lane. Three lanes
-- have an index by workflow. The lane of those that are not due has none: it is walked, but not further than :walk.
WITH waiting (seq) AS (
  SELECT seq FROM (SELECT seq FROM runs WHERE lane = 'ready' AND workflow = :workflow LIMIT :limit)
  UNION ALL
  SELECT seq FROM (SELECT seq FROM runs WHERE lane = 'limited' AND workflow = :workflow LIMIT :limit)
  UNION ALL
  SELECT seq FROM (SELECT seq FROM runs WHERE lane = 'solo' AND workflow = :workflow LIMIT :limit)
  UNION ALL
  SELECT seq FROM (SELECT seq, workflow FROM runs WHERE lane = 'later' LIMIT :walk) WHERE workflow = :workflow
)
SELECT runs.id, payloads.payload
  FROM waiting JOIN runs ON runs.seq = waiting.seq JOIN payloads ON payloads.run = waiting.seq;

-- name: still_pending
-- Which of these runs wait; :ids is a JSON list.
SELECT id FROM runs WHERE id IN (SELECT value FROM json_each(:ids)) AND status = 'pending';
