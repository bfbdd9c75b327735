-- The ledger. Times are microseconds since 1970-01-01 UTC. No column holds an NHS number, a name or free text: payloads are sealed, people
-- are keyed hashes, organisations and custodians are ODS codes and configured keys.

-- One row: where the next entry goes. Positions come from here, never from a sequence.
CREATE TABLE head (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  size   INTEGER NOT NULL CHECK (size >= 0),
  newest INTEGER NOT NULL
) STRICT;
INSERT INTO head (one, size, newest) VALUES (1, 0, 0);

-- The entries. sealed comes last, so that leaves can be read without it; it is NULL once erased, which nothing else of a row survives.
CREATE TABLE entries (
  position   INTEGER PRIMARY KEY CHECK (position >= 0),
  version    INTEGER NOT NULL,
  type       INTEGER NOT NULL,
  time       INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  commitment BLOB NOT NULL CHECK (length(commitment) = 32),
  leaf       BLOB NOT NULL CHECK (length(leaf) = 32),
  sealed     BLOB
) STRICT;
CREATE INDEX entries_by_time ON entries (time);
CREATE INDEX entries_by_type ON entries (type, position);

CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN
  SELECT RAISE(ABORT, 'entries are never deleted');
END;
CREATE TRIGGER entries_are_final BEFORE UPDATE ON entries
WHEN NEW.sealed IS NOT NULL OR NEW.position IS NOT OLD.position OR NEW.version IS NOT OLD.version OR NEW.type IS NOT OLD.type
  OR NEW.time IS NOT OLD.time OR NEW.epoch IS NOT OLD.epoch OR NEW.commitment IS NOT OLD.commitment OR NEW.leaf IS NOT OLD.leaf
BEGIN
  SELECT RAISE(ABORT, 'entries are never changed');
END;

-- What an entry is found by.
CREATE TABLE marks (
  kind     INTEGER NOT NULL,
  value    BLOB    NOT NULL,
  position INTEGER NOT NULL REFERENCES entries (position),
  PRIMARY KEY (kind, value, position)
) STRICT, WITHOUT ROWID;

-- The newest state of each objection.
CREATE TABLE objections (
  id       TEXT    PRIMARY KEY,
  person   BLOB    NOT NULL CHECK (length(person) = 32),
  position INTEGER NOT NULL REFERENCES entries (position)
) STRICT, WITHOUT ROWID;
CREATE INDEX objections_by_person ON objections (person);

-- Accesses without a closing entry, and when they are given up.
CREATE TABLE open_accesses (
  position INTEGER PRIMARY KEY REFERENCES entries (position),
  due      INTEGER NOT NULL
) STRICT;
CREATE INDEX open_accesses_by_due ON open_accesses (due);

-- Overrides that somebody must be told of, and must review.
CREATE TABLE alerts (
  position  INTEGER PRIMARY KEY REFERENCES entries (position),
  kind      TEXT    NOT NULL CHECK (kind IN ('break-glass', 'after-no')),
  delivered INTEGER,
  review    INTEGER REFERENCES entries (position)
) STRICT;
