-- name: set_count
-- The absolute number: the mirror in memory is the truth while a transaction runs. By position.
INSERT INTO counts (workflow, state, n) VALUES (?, ?, ?)
ON CONFLICT (workflow, state) DO UPDATE SET n = excluded.n;

-- name: all_counts
-- Read once, when the store opens; a row for each workflow and state, not for each run.
SELECT workflow, state, n FROM counts;

-- name: last_seq
-- The store hands out `seq` itself, so that a batch knows its numbers before it is inserted.
SELECT coalesce(max(seq), 0) AS seq FROM runs;

-- name: note_stretch
-- Once for each workflow and stretch, and again after a restart or a transaction that failed.
INSERT OR IGNORE INTO stretches (workflow, stretch) VALUES (:workflow, :stretch);

-- name: get_meta
-- One fact about the store, such as its id.
SELECT value FROM meta WHERE name = :name;

-- name: set_meta
INSERT INTO meta (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;
