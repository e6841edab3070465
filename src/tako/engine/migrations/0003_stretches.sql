-- Which workflows have runs in a stretch of 1,024 rows (inspect.py): a list of one workflow skips the stretches that have
-- none of its runs. In place of an index by workflow, which each run would pay for when it comes in; this is written once
-- for each workflow and stretch. A run that is deleted leaves its mark, which costs a look and no more.
CREATE TABLE stretches (
  workflow TEXT    NOT NULL,
  stretch  INTEGER NOT NULL,
  PRIMARY KEY (workflow, stretch)
) STRICT, WITHOUT ROWID;

INSERT INTO stretches SELECT DISTINCT workflow, seq / 1024 FROM runs;
