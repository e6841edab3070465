-- name: app
SELECT * FROM apps WHERE app = :app AND env = :env;

-- name: apps
SELECT * FROM apps ORDER BY app, env;

-- name: add_app
INSERT INTO apps (app, env, created_ms) VALUES (:app, :env, :now_ms) ON CONFLICT DO NOTHING;

-- name: set_current
-- Follows runs.db, which decides.
UPDATE apps SET previous = CASE WHEN current = :release THEN previous ELSE current END, current = :release
 WHERE app = :app AND env = :env;

-- name: put_back_current
-- A switch was undone: what served before is current again.
UPDATE apps SET current = :release,
       previous = (SELECT release FROM releases r
                    WHERE r.app = apps.app AND r.env = apps.env AND r.release IS NOT :release AND live_ms IS NOT NULL
                      AND complete ORDER BY live_ms DESC LIMIT 1)
 WHERE app = :app AND env = :env;

-- name: set_scale
UPDATE apps SET scale = :scale WHERE app = :app AND env = :env;

-- name: set_maintenance
UPDATE apps SET maintenance = :is_on WHERE app = :app AND env = :env;

-- name: want_deleted
-- Before anything is removed, so that the next daemon goes on with it.
UPDATE apps SET wanted = 'deleted' WHERE app = :app AND env = :env;

-- name: delete_app
DELETE FROM apps WHERE app = :app AND env = :env;

-- name: delete_releases
DELETE FROM releases WHERE app = :app AND env = :env;

-- name: delete_secrets
DELETE FROM secrets WHERE app = :app AND env = :env;

-- name: release
SELECT * FROM releases WHERE app = :app AND env = :env AND release = :release;

-- name: releases
-- Newest first.
SELECT * FROM releases WHERE app = :app AND env = :env ORDER BY created_ms DESC, release DESC;

-- name: add_release
INSERT INTO releases (app, env, release, created_ms, by, message, server, manifest, files, bytes, routes)
VALUES (:app, :env, :release, :now_ms, :by, :message, :server, :manifest, :files, :bytes, :routes)
ON CONFLICT (app, env, release) DO UPDATE
   SET by = excluded.by, message = excluded.message, server = excluded.server, routes = excluded.routes;

-- name: delete_release
DELETE FROM releases WHERE app = :app AND env = :env AND release = :release;

-- name: set_environment
-- Which virtual environment it runs in.
UPDATE releases SET environment = :environment WHERE app = :app AND env = :env AND release = :release;

-- name: complete_release
-- It has served: `rollback` may go there.
UPDATE releases SET complete = 1 WHERE app = :app AND env = :env AND release = :release;

-- name: set_live
UPDATE releases SET live_ms = :now_ms WHERE app = :app AND env = :env AND release = :release;

-- name: environments
SELECT DISTINCT environment FROM releases WHERE environment IS NOT NULL;

-- name: routes
SELECT * FROM routes ORDER BY host, path;

-- name: routes_of
SELECT * FROM routes WHERE app = :app AND env = :env ORDER BY host, path;

-- name: add_route
INSERT INTO routes (host, path, app, env) VALUES (:host, :path, :app, :env);

-- name: delete_routes
DELETE FROM routes WHERE app = :app AND env = :env;

-- name: instances_of
SELECT * FROM instances WHERE app = :app AND env = :env;

-- name: intend_instance
-- Before the process is started: one that nobody has written down would serve on, unknown.
INSERT INTO instances (id, app, env, release, roll, intent, since_ms)
VALUES (:id, :app, :env, :release, :roll, 'starting', :now_ms);

-- name: set_instance
UPDATE instances SET intent = :intent, record = coalesce(:record, record), since_ms = :now_ms WHERE id = :id;

-- name: delete_instance
DELETE FROM instances WHERE id = :id;

-- name: job
SELECT * FROM jobs WHERE job = :job;

-- name: running_job
SELECT * FROM jobs WHERE app = :app AND env = :env AND finished_ms IS NULL;

-- name: running_jobs
SELECT * FROM jobs WHERE finished_ms IS NULL ORDER BY started_ms;

-- name: jobs_of
SELECT * FROM jobs WHERE app = :app AND env = :env ORDER BY started_ms DESC, job DESC LIMIT :limit;

-- name: add_job
INSERT INTO jobs (job, app, env, kind, release, previous, by, message, options, phase, started_ms, phase_ms)
VALUES (:job, :app, :env, :kind, :release, :previous, :by, :message, :options, :phase, :now_ms, :now_ms);

-- name: set_phase
-- Before the phase is begun.
UPDATE jobs SET phase = :phase, phase_ms = :now_ms WHERE job = :job AND finished_ms IS NULL;

-- name: set_options
UPDATE jobs SET options = :options WHERE job = :job;

-- name: set_marker
-- Around the release command: one that may have been begun is never run again.
UPDATE jobs SET marker = :marker WHERE job = :job;

-- name: finish_job
UPDATE jobs SET finished_ms = :now_ms, outcome = :outcome, error = :error
 WHERE job = :job AND finished_ms IS NULL;

-- name: add_event
INSERT INTO events (job, seq, event) VALUES (:job, :seq, :event);

-- name: events_of
SELECT event FROM events WHERE job = :job AND seq > :after ORDER BY seq;

-- name: last_seq
SELECT coalesce(max(seq), 0) AS seq FROM events WHERE job = :job;

-- name: prune_jobs
-- The newest fifty of an app are kept.
DELETE FROM jobs WHERE app = :app AND env = :env AND finished_ms IS NOT NULL AND job NOT IN
  (SELECT job FROM jobs WHERE app = :app AND env = :env ORDER BY started_ms DESC, job DESC LIMIT 50);

-- name: prune_events
DELETE FROM events WHERE job NOT IN (SELECT job FROM jobs);

-- name: secrets
SELECT * FROM secrets WHERE app = :app AND env = :env;

-- name: put_secrets
INSERT INTO secrets (app, env, hash, sealed, updated_ms) VALUES (:app, :env, :hash, :sealed, :now_ms)
ON CONFLICT (app, env) DO UPDATE SET hash = excluded.hash, sealed = excluded.sealed, updated_ms = excluded.updated_ms;

-- name: propose_secrets
-- With a deploy: in force when it switches, or not at all.
INSERT INTO secrets (app, env, hash, sealed, updated_ms, pending_job, pending_hash, pending_sealed)
VALUES (:app, :env, '', x'', :now_ms, :job, :hash, :sealed)
ON CONFLICT (app, env) DO UPDATE
   SET pending_job = excluded.pending_job, pending_hash = excluded.pending_hash,
       pending_sealed = excluded.pending_sealed;

-- name: adopt_secrets
UPDATE secrets SET before_job = pending_job, before_hash = hash, before_sealed = sealed,
       hash = pending_hash, sealed = pending_sealed, updated_ms = :now_ms,
       pending_job = NULL, pending_hash = NULL, pending_sealed = NULL
 WHERE app = :app AND env = :env AND pending_job = :job;

-- name: restore_secrets
-- The job that brought them was taken back.
UPDATE secrets SET hash = before_hash, sealed = before_sealed, before_job = NULL, before_hash = NULL,
       before_sealed = NULL
 WHERE app = :app AND env = :env AND before_job = :job;

-- name: drop_proposed
UPDATE secrets SET pending_job = NULL, pending_hash = NULL, pending_sealed = NULL
 WHERE app = :app AND env = :env AND pending_job = :job;

-- name: get_meta
SELECT value FROM meta WHERE name = :name;

-- name: set_meta
INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: next_number
-- Ids of instances: no two daemons give out the same.
INSERT INTO meta (name, value) VALUES (:name, '1')
ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) RETURNING value;

-- name: all_manifests
-- Which blobs somebody needs.
SELECT manifest FROM releases;
