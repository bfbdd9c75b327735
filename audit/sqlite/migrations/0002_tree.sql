-- The tree over the leaves of the entries (RFC 6962), and what was signed of it. The frontier holds the roots of the complete subtrees that make up the tree of
-- size leaves, 32 bytes each, largest first. A ledger that is older than this has an empty one, and the tree is made when it is opened next.
ALTER TABLE head ADD COLUMN frontier BLOB NOT NULL DEFAULT x'' CHECK (length(frontier) % 32 = 0);

-- Roots of the subtrees of 256^level leaves that are complete. What lies between is made of at most 255 of these, or of as many leaves.
CREATE TABLE nodes (
  level  INTEGER NOT NULL CHECK (level >= 1),
  number INTEGER NOT NULL CHECK (number >= 0),
  hash   BLOB    NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints, with the cosignatures of witnesses.
CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY CHECK (size > 0),
  at   INTEGER NOT NULL,
  note BLOB    NOT NULL
) STRICT;
