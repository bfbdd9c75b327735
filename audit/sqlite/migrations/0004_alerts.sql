-- Alerts are of overrides, and of what the worklist's rules found: their kind is then the name of a rule.
CREATE TABLE alerts_of_all (
  position  INTEGER PRIMARY KEY REFERENCES entries (position),
  kind      TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 40),
  delivered INTEGER,
  review    INTEGER REFERENCES entries (position)
) STRICT;
INSERT INTO alerts_of_all SELECT position, kind, delivered, review FROM alerts;
DROP TABLE alerts;
ALTER TABLE alerts_of_all RENAME TO alerts;
