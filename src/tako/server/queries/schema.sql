CREATE TABLE apps (
  app TEXT NOT NULL, env TEXT NOT NULL, created_ms INTEGER NOT NULL,
  current TEXT, previous TEXT,
  wanted TEXT NOT NULL DEFAULT 'up' CHECK (wanted IN ('up', 'deleted')),
  scale TEXT NOT NULL DEFAULT '{}', maintenance INTEGER NOT NULL DEFAULT 0 CHECK (maintenance IN (0, 1)),
  PRIMARY KEY (app, env)
) STRICT;
CREATE TABLE releases (
  app TEXT NOT NULL, env TEXT NOT NULL, release TEXT NOT NULL,
  created_ms INTEGER NOT NULL, by TEXT NOT NULL, message TEXT, server TEXT,
  manifest TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL, routes TEXT,
  environment TEXT, complete INTEGER NOT NULL DEFAULT 0 CHECK (complete IN (0, 1)), live_ms INTEGER,
  PRIMARY KEY (app, env, release)
) STRICT;
CREATE TABLE routes (
  host TEXT NOT NULL, path TEXT NOT NULL, app TEXT NOT NULL, env TEXT NOT NULL,
  PRIMARY KEY (host, path)
) STRICT;
CREATE TABLE instances (
  id TEXT PRIMARY KEY, app TEXT NOT NULL, env TEXT NOT NULL, release TEXT NOT NULL,
  roll TEXT NOT NULL, intent TEXT NOT NULL CHECK (intent IN ('starting', 'ready', 'leaving')), record TEXT, since_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE jobs (
  job TEXT PRIMARY KEY, app TEXT NOT NULL, env TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('deploy', 'rollback', 'secrets', 'restart')),
  release TEXT NOT NULL, previous TEXT, by TEXT NOT NULL, message TEXT, options TEXT NOT NULL,
  phase TEXT NOT NULL, started_ms INTEGER NOT NULL, phase_ms INTEGER NOT NULL,
  marker TEXT CHECK (marker IN ('started', 'ended')),
  finished_ms INTEGER, outcome TEXT CHECK (outcome IN ('live', 'failed', 'rolled_back', 'aborted')), error TEXT,
  CHECK ((finished_ms IS NULL) = (outcome IS NULL))
) STRICT;
-- The lock of a deploy: a row that is not finished. There is no stale one, since the next daemon finishes it.
CREATE UNIQUE INDEX jobs_running ON jobs (app, env) WHERE finished_ms IS NULL;
CREATE INDEX jobs_of ON jobs (app, env, started_ms);
CREATE TABLE events (
  job TEXT NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (
  app TEXT NOT NULL, env TEXT NOT NULL, hash TEXT NOT NULL, sealed BLOB NOT NULL, updated_ms INTEGER NOT NULL,
  pending_job TEXT, pending_hash TEXT, pending_sealed BLOB,
  before_job TEXT, before_hash TEXT, before_sealed BLOB,
  PRIMARY KEY (app, env)
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
