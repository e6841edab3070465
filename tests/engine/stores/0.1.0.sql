PRAGMA application_id = 1413565263;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE attempts (
  run        INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  worker_id  TEXT,
  release    TEXT,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER NOT NULL,
  outcome    TEXT    NOT NULL CHECK (CASE outcome WHEN 'succeeded' THEN 1 WHEN 'failed' THEN 1 WHEN 'fatal' THEN 1
                                   WHEN 'stopped' THEN 1 WHEN 'cancelled' THEN 1 WHEN 'crashed' THEN 1 ELSE 0 END),
  retry_at_ms INTEGER,
  error      TEXT,
  traceback  TEXT,
  PRIMARY KEY (run, epoch)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,1,'w1','r1',1800000000000,1800000000000,'fatal',NULL,'ValueError: no such order','');
INSERT INTO "attempts" VALUES(2,1,1,'w1','r1',1800000000000,1800000000000,'succeeded',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES(3,1,1,'w1','r1',1800000000000,1800000000000,'cancelled',NULL,'not needed',NULL);
INSERT INTO "attempts" VALUES(12,1,1,'w3','r1',1800000000000,1800000000000,'crashed',NULL,'its worker died: SIGKILL, with 1 other run in flight',NULL);
INSERT INTO "attempts" VALUES(13,1,1,'w3','r1',1800000000000,1800000000000,'crashed',NULL,'its worker died: SIGKILL, with 1 other run in flight',NULL);
INSERT INTO "attempts" VALUES(14,1,1,'w1','r1',1800000000000,1800000000000,'failed',1800000001000,'ValueError: boom','Traceback: boom');
CREATE TABLE cooling (
  position   INTEGER PRIMARY KEY,
  workflow   TEXT    NOT NULL,
  key        TEXT    NOT NULL,
  claimed_ms INTEGER NOT NULL,
  free_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE counts (
  workflow TEXT    NOT NULL,
  state    TEXT    NOT NULL,
  n        INTEGER NOT NULL CHECK (n >= 0),
  PRIMARY KEY (workflow, state)
) STRICT, WITHOUT ROWID;
INSERT INTO "counts" VALUES('charge','later',1);
INSERT INTO "counts" VALUES('charge','limited',2);
INSERT INTO "counts" VALUES('charge','ready',2);
INSERT INTO "counts" VALUES('charge','running',2);
INSERT INTO "counts" VALUES('child','ready',1);
INSERT INTO "counts" VALUES('naps','later',1);
INSERT INTO "counts" VALUES('naps','ready',0);
INSERT INTO "counts" VALUES('naps','running',0);
INSERT INTO "counts" VALUES('parent','later',1);
INSERT INTO "counts" VALUES('parent','ready',0);
INSERT INTO "counts" VALUES('parent','running',0);
INSERT INTO "counts" VALUES('paused','ready',1);
INSERT INTO "counts" VALUES('refund','cancelled',1);
INSERT INTO "counts" VALUES('refund','dead',1);
INSERT INTO "counts" VALUES('refund','later',1);
INSERT INTO "counts" VALUES('refund','ready',0);
INSERT INTO "counts" VALUES('refund','running',0);
INSERT INTO "counts" VALUES('refund','succeeded',1);
INSERT INTO "counts" VALUES('refund','unseen',1);
INSERT INTO "counts" VALUES('together','ready',0);
INSERT INTO "counts" VALUES('together','running',0);
INSERT INTO "counts" VALUES('together','solo',2);
INSERT INTO "counts" VALUES('waits','later',2);
INSERT INTO "counts" VALUES('waits','ready',1);
INSERT INTO "counts" VALUES('waits','running',0);
CREATE TABLE group_health (
  name   TEXT PRIMARY KEY,
  health TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE interventions (
  position INTEGER PRIMARY KEY,
  run      INTEGER NOT NULL,
  at_ms    INTEGER NOT NULL,
  what     TEXT    NOT NULL,
  detail   TEXT
) STRICT;
CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('options','{"charge": {"names": ["charge"], "max_pending": null, "on_dead": null, "concurrency": 2, "rate_count": null, "rate_per_ms": 0, "templates": {"concurrency_key": "{card}"}, "defaults": {}}}');
INSERT INTO "meta" VALUES('store_id','cb7fa180d4e396417ee3b91b30db67e6');
CREATE TABLE pauses (
  kind     TEXT    NOT NULL CHECK (kind IN ('workflow', 'group', 'key')),
  name     TEXT    NOT NULL,
  key      TEXT    NOT NULL,
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (kind, name, key),
  CHECK ((kind = 'key') = (key <> ''))
) STRICT, WITHOUT ROWID;
INSERT INTO "pauses" VALUES('workflow','paused','',1800000000000);
CREATE TABLE payloads (
  run     INTEGER PRIMARY KEY,
  payload TEXT NOT NULL
, trace TEXT) STRICT;
INSERT INTO "payloads" VALUES(1,'{}',NULL);
INSERT INTO "payloads" VALUES(2,'{}',NULL);
INSERT INTO "payloads" VALUES(3,'{}',NULL);
INSERT INTO "payloads" VALUES(4,'{}',NULL);
INSERT INTO "payloads" VALUES(5,'{}',NULL);
INSERT INTO "payloads" VALUES(6,'{}',NULL);
INSERT INTO "payloads" VALUES(7,'{}',NULL);
INSERT INTO "payloads" VALUES(8,'{}',NULL);
INSERT INTO "payloads" VALUES(9,'{}',NULL);
INSERT INTO "payloads" VALUES(10,'{}',NULL);
INSERT INTO "payloads" VALUES(11,'{}',NULL);
INSERT INTO "payloads" VALUES(12,'{}',NULL);
INSERT INTO "payloads" VALUES(13,'{}',NULL);
INSERT INTO "payloads" VALUES(14,'{}',NULL);
INSERT INTO "payloads" VALUES(15,'{}',NULL);
INSERT INTO "payloads" VALUES(16,'{}',NULL);
INSERT INTO "payloads" VALUES(17,'{}',NULL);
INSERT INTO "payloads" VALUES(18,'{}',NULL);
INSERT INTO "payloads" VALUES(19,'{}',NULL);
INSERT INTO "payloads" VALUES(20,'{}',NULL);
CREATE TABLE permits (
  workflow TEXT    NOT NULL,
  kind     TEXT    NOT NULL CHECK (kind IN ('running', 'rate')),
  key      TEXT    NOT NULL,
  n        INTEGER NOT NULL CHECK (n >= 0),
  PRIMARY KEY (workflow, kind, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "permits" VALUES('charge','running','',2);
INSERT INTO "permits" VALUES('charge','running','4242',2);
CREATE TABLE registries (
  release    TEXT NOT NULL,
  name       TEXT NOT NULL,
  registry   TEXT NOT NULL,
  saved_ms   INTEGER NOT NULL,
  PRIMARY KEY (release, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE results (
  run    INTEGER PRIMARY KEY,
  result TEXT NOT NULL
) STRICT;
INSERT INTO "results" VALUES(2,'"done"');
CREATE TABLE runs (
  seq              INTEGER PRIMARY KEY,
  id               TEXT    NOT NULL UNIQUE,
  workflow         TEXT    NOT NULL,
  status           TEXT    NOT NULL,
  lane             TEXT,
  parked           TEXT,
  priority         INTEGER NOT NULL DEFAULT 0,
  run_at_ms        INTEGER,
  key              TEXT,
  concurrency_key  TEXT,
  rate_key         TEXT,
  epoch            INTEGER NOT NULL DEFAULT 0,
  parked_epoch     INTEGER,
  worker_id        TEXT,
  release          TEXT,
  attempt          INTEGER NOT NULL DEFAULT 0,
  attempt_open     INTEGER NOT NULL DEFAULT 0,
  attempt_ms       INTEGER,
  spent_ms         INTEGER NOT NULL DEFAULT 0,
  failures         INTEGER NOT NULL DEFAULT 0,
  retries          INTEGER,
  crashes          INTEGER NOT NULL DEFAULT 0,
  lifetime_crashes INTEGER NOT NULL DEFAULT 0,
  suspect_ms       INTEGER,
  generation       INTEGER NOT NULL DEFAULT 1,
  created_ms       INTEGER NOT NULL,
  started_ms       INTEGER,
  claimed_ms       INTEGER,
  ended_ms         INTEGER,
  expires_at_ms    INTEGER,
  scheduled_for_ms INTEGER,
  scheduled_tz     TEXT,
  parent           INTEGER,
  reason           TEXT,
  warnings         TEXT,
  acknowledged     INTEGER NOT NULL DEFAULT 0,
  CHECK (coalesce(CASE status
    WHEN 'pending' THEN
      ended_ms IS NULL AND CASE lane
        WHEN 'ready' THEN run_at_ms IS NOT NULL AND parked IS NULL
        WHEN 'later' THEN (run_at_ms IS NOT NULL OR parked = 'wait')
                         AND (parked IS NULL OR parked IN ('sleep', 'wait'))
        WHEN 'limited' THEN run_at_ms IS NOT NULL AND parked IS NULL
        WHEN 'paused'  THEN run_at_ms IS NOT NULL AND parked IS NULL
        WHEN 'solo'  THEN run_at_ms IS NOT NULL AND parked IS NULL AND suspect_ms IS NOT NULL
        ELSE 0 END
    WHEN 'running' THEN
      lane IS NULL AND parked IS NULL AND ended_ms IS NULL AND worker_id IS NOT NULL AND epoch >= 1
      AND claimed_ms IS NOT NULL AND attempt_open
    ELSE
      ended_ms IS NOT NULL AND lane IS NULL AND parked IS NULL AND run_at_ms IS NULL AND NOT attempt_open
      AND CASE status WHEN 'succeeded' THEN 1 WHEN 'dead' THEN length(reason) > 0 WHEN 'cancelled' THEN length(reason) > 0
          ELSE 0 END
    END, 0)),
  CHECK (crashes < 3 OR (crashes = 3 AND status = 'dead')),
  CHECK (lifetime_crashes < 20 OR (lifetime_crashes = 20 AND status = 'dead')),
  CHECK (attempt <= epoch AND failures <= attempt)
) STRICT;
INSERT INTO "runs" VALUES(1,'dead','refund','dead',NULL,NULL,0,NULL,NULL,NULL,NULL,1,NULL,'w1','r1',1,0,1800000000000,0,1,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,'ValueError: no such order',NULL,0);
INSERT INTO "runs" VALUES(2,'succeeded','refund','succeeded',NULL,NULL,0,NULL,NULL,NULL,NULL,1,NULL,'w1','r1',1,0,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(3,'cancelled','refund','cancelled',NULL,NULL,0,NULL,NULL,NULL,NULL,1,NULL,'w1','r1',1,0,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,'not needed',NULL,0);
INSERT INTO "runs" VALUES(4,'running','charge','running',NULL,NULL,0,NULL,'order:7',NULL,NULL,1,NULL,'w1','r1',1,1,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(5,'running alone','charge','running',NULL,NULL,0,NULL,NULL,NULL,NULL,1,NULL,'w2','r1',1,1,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(6,'sleeping','naps','pending','later','sleep',0,1800000060000,NULL,NULL,NULL,1,1,'w1','r1',1,1,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(7,'waiting','waits','pending','later','wait',0,NULL,NULL,NULL,NULL,1,1,'w1','r1',1,1,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(8,'waiting for a while','waits','pending','later','wait',0,1800000060000,NULL,NULL,NULL,1,1,'w1','r1',1,1,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(9,'has mail','waits','pending','ready',NULL,0,1800000000000,NULL,NULL,NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(10,'parent','parent','pending','later','wait',0,NULL,NULL,NULL,NULL,1,1,'w1','r1',1,1,1800000000000,0,0,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(11,'child','child','pending','ready',NULL,0,1800000000000,NULL,NULL,NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,10,NULL,NULL,0);
INSERT INTO "runs" VALUES(12,'suspect','together','pending','solo',NULL,0,1800000000000,NULL,NULL,NULL,1,NULL,'w3','r1',1,1,NULL,0,0,NULL,0,0,0,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(13,'its neighbour','together','pending','solo',NULL,0,1800000000000,NULL,NULL,NULL,1,NULL,'w3','r1',1,1,NULL,0,0,NULL,0,0,0,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(14,'to be retried','refund','pending','later',NULL,0,1800000001000,NULL,NULL,NULL,1,NULL,'w1','r1',1,0,1800000000000,0,1,NULL,0,0,NULL,1,1800000000000,1800000000000,1800000000000,NULL,NULL,NULL,NULL,NULL,'ValueError: boom',NULL,0);
INSERT INTO "runs" VALUES(15,'limited 0','charge','pending','ready',NULL,0,1800000000000,NULL,'4242',NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(16,'limited 1','charge','pending','ready',NULL,0,1800000000000,NULL,'4242',NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(17,'limited 2','charge','pending','limited',NULL,0,1800000000000,NULL,'4242',NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(18,'limited 3','charge','pending','limited',NULL,0,1800000000000,NULL,'4242',NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(19,'later','charge','pending','later',NULL,0,1800003600000,NULL,NULL,NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(20,'paused','paused','pending','ready',NULL,0,1800000000000,NULL,NULL,NULL,0,NULL,NULL,NULL,0,0,NULL,0,0,NULL,0,0,NULL,1,1800000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE schedules (
  workflow   TEXT    NOT NULL,
  spec       TEXT    NOT NULL,
  options    TEXT    NOT NULL,
  mark_ms    INTEGER NOT NULL,
  next_ms    INTEGER NOT NULL,
  fired_ms   INTEGER,
  last_run   TEXT,
  queued_ms  INTEGER,
  skipped    INTEGER NOT NULL DEFAULT 0,
  paused     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workflow, spec)
) STRICT, WITHOUT ROWID;
INSERT INTO "schedules" VALUES('report','0 9 * * 1','{"expression": "0 9 * * 1", "kind": "cron"}',1800000000000,1800262800000,NULL,NULL,NULL,0,0);
CREATE TABLE signals (
  position   INTEGER PRIMARY KEY,
  run        INTEGER,
  event      TEXT    NOT NULL,
  payload    TEXT    NOT NULL,
  signal_id  TEXT,
  sent_ms    INTEGER NOT NULL,
  taken_ms   INTEGER,
  CHECK (taken_ms IS NULL OR signal_id IS NOT NULL)
) STRICT;
INSERT INTO "signals" VALUES(1,9,'shipped','{"by": "DHL"}',NULL,1800000000000,NULL);
CREATE TABLE steps (
  position   INTEGER PRIMARY KEY,
  run        INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  name       TEXT    NOT NULL,
  kind       TEXT    NOT NULL CHECK (CASE kind WHEN 'step' THEN 1 WHEN 'sleep' THEN 1 WHEN 'signal' THEN 1
                                             WHEN 'timeout' THEN 1 WHEN 'child' THEN 1 ELSE 0 END),
  attempt    INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  started_ms INTEGER,
  ended_ms   INTEGER NOT NULL,
  result     TEXT    NOT NULL
) STRICT;
INSERT INTO "steps" VALUES(1,2,1,'look','step',1,1,1800000000000,1800000000000,'{"order": 7}');
INSERT INTO "steps" VALUES(2,4,1,'load','step',1,1,1800000000000,1800000000000,'{"price": "9.90"}');
INSERT INTO "steps" VALUES(3,10,1,'refund','child',1,1,1800000000000,1800000000000,'{"id": "child", "is_new": true}');
CREATE TABLE stretches (
  workflow TEXT    NOT NULL,
  stretch  INTEGER NOT NULL,
  PRIMARY KEY (workflow, stretch)
) STRICT, WITHOUT ROWID;
INSERT INTO "stretches" VALUES('charge',0);
INSERT INTO "stretches" VALUES('child',0);
INSERT INTO "stretches" VALUES('naps',0);
INSERT INTO "stretches" VALUES('parent',0);
INSERT INTO "stretches" VALUES('paused',0);
INSERT INTO "stretches" VALUES('refund',0);
INSERT INTO "stretches" VALUES('together',0);
INSERT INTO "stretches" VALUES('waits',0);
CREATE TABLE waiters (
  run       INTEGER PRIMARY KEY,
  step      TEXT    NOT NULL,
  event     TEXT,
  wake_at_ms INTEGER,
  parked_ms INTEGER NOT NULL,
  branches  INTEGER NOT NULL DEFAULT 0,
  CHECK (event IS NOT NULL OR wake_at_ms IS NOT NULL)
) STRICT;
INSERT INTO "waiters" VALUES(6,'cool-off',NULL,1800000060000,1800000000000,0);
INSERT INTO "waiters" VALUES(7,'wait shipped','shipped',NULL,1800000000000,0);
INSERT INTO "waiters" VALUES(8,'wait shipped','shipped',1800000060000,1800000000000,0);
INSERT INTO "waiters" VALUES(10,'gather','@runs',NULL,1800000000000,1);
CREATE TABLE wakers (
  event  TEXT    NOT NULL,
  run    INTEGER NOT NULL,
  branch INTEGER NOT NULL,
  PRIMARY KEY (event, run, branch)
) STRICT, WITHOUT ROWID;
INSERT INTO "wakers" VALUES('@run:child',10,0);
CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY,
  record    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_ready   ON runs (workflow, priority DESC, run_at_ms) WHERE lane = 'ready';
CREATE INDEX runs_solo    ON runs (workflow, priority DESC, run_at_ms) WHERE lane = 'solo';
CREATE INDEX runs_limited ON runs (workflow, coalesce(concurrency_key, ''), priority DESC, run_at_ms)
  WHERE lane = 'limited';
CREATE INDEX runs_rate    ON runs (workflow, coalesce(rate_key, ''), priority DESC, run_at_ms)
  WHERE lane = 'limited';
CREATE INDEX runs_paused  ON runs (workflow, priority DESC, run_at_ms) WHERE lane = 'paused';
CREATE INDEX runs_later   ON runs (run_at_ms) WHERE lane = 'later';
CREATE INDEX runs_running ON runs (worker_id) WHERE status = 'running';
CREATE UNIQUE INDEX runs_live_key ON runs (workflow, key) WHERE key IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX runs_key     ON runs (workflow, key) WHERE key IS NOT NULL;
CREATE INDEX runs_expiry  ON runs (expires_at_ms) WHERE expires_at_ms IS NOT NULL AND epoch = 0 AND ended_ms IS NULL;
CREATE INDEX runs_parent  ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_dead    ON runs (workflow) WHERE status = 'dead';
CREATE UNIQUE INDEX steps_name ON steps (run, generation, name);
CREATE INDEX waiters_event ON waiters (event) WHERE event IS NOT NULL;
CREATE INDEX wakers_branch ON wakers (run, branch);
CREATE INDEX signals_waiting ON signals (run, event) WHERE taken_ms IS NULL;
CREATE UNIQUE INDEX signals_once ON signals (run, event, signal_id) WHERE signal_id IS NOT NULL;
CREATE INDEX signals_sent ON signals (sent_ms);
CREATE INDEX cooling_free ON cooling (free_at_ms);
CREATE INDEX interventions_run ON interventions (run);
CREATE INDEX schedules_due    ON schedules (next_ms) WHERE paused = 0;
CREATE INDEX schedules_mark   ON schedules (mark_ms);
CREATE INDEX schedules_queued ON schedules (queued_ms) WHERE queued_ms IS NOT NULL;
COMMIT;
