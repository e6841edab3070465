-- name: unfinished_of
-- Of one workflow, the oldest first: what a release without its code would leave behind. Asked at deploys only.
SELECT id FROM runs WHERE workflow = :workflow AND ended_ms IS NULL ORDER BY seq LIMIT :limit;
