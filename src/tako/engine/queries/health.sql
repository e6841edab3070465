-- name: save_health
INSERT INTO group_health (name, health) VALUES (:name, :health)
ON CONFLICT (name) DO UPDATE SET health = excluded.health;

-- name: all_health
SELECT name, health FROM group_health ORDER BY name;

-- name: delete_health
-- Of all groups: it was about code that is no more.
DELETE FROM group_health;

-- name: save_worker
INSERT INTO workers (worker_id, record) VALUES (:worker_id, :record)
ON CONFLICT (worker_id) DO UPDATE SET record = excluded.record;

-- name: delete_worker
DELETE FROM workers WHERE worker_id = :worker_id;

-- name: all_workers
SELECT worker_id, record FROM workers ORDER BY worker_id;

-- name: save_registry
INSERT INTO registries (release, name, registry, saved_ms) VALUES (:release, :name, :registry, :saved_ms)
ON CONFLICT (release, name) DO UPDATE SET registry = excluded.registry, saved_ms = excluded.saved_ms;

-- name: registries_of
SELECT name, registry FROM registries WHERE release = :release ORDER BY name;

-- name: all_registries
-- Of every release: read when the store is opened, to see that it can be.
SELECT name, registry FROM registries ORDER BY release, name;

-- name: delete_registry
DELETE FROM registries WHERE release = :release AND name = :name;
