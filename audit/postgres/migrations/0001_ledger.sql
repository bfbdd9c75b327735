-- The ledger. Times are microseconds since 1970-01-01 UTC. No column holds an NHS number, a name or free text: payloads are sealed, people
-- are keyed hashes, organisations and custodians are ODS codes and configured keys.
--
-- There are no foreign keys: each would lock and read the entry again for every mark. Rows without their entry are found by Verify.

-- One row: where the next entry goes. Whoever writes locks it first, so that one transaction at a time writes, on whichever replica. Positions come
-- from here, never from a sequence. The frontier holds the roots of the complete subtrees that make up the tree of size leaves (RFC 6962), 32 bytes
-- each, largest first.
CREATE TABLE head (
  one      boolean PRIMARY KEY CHECK (one),
  size     bigint  NOT NULL CHECK (size >= 0),
  newest   bigint  NOT NULL,
  frontier bytea   NOT NULL CHECK (length(frontier) % 32 = 0)
) WITH (fillfactor = 10);
INSERT INTO head (one, size, newest, frontier) VALUES (true, 0, 0, '');

-- The entries. sealed is NULL once erased, which nothing else of a row survives. It does not compress.
CREATE TABLE entries (
  position   bigint   PRIMARY KEY CHECK (position >= 0),
  version    smallint NOT NULL,
  type       smallint NOT NULL,
  time       bigint   NOT NULL,
  epoch      bigint   NOT NULL,
  commitment bytea    NOT NULL CHECK (length(commitment) = 32),
  leaf       bytea    NOT NULL CHECK (length(leaf) = 32),
  sealed     bytea
);
ALTER TABLE entries ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX entries_by_time ON entries (time, position);
CREATE INDEX entries_by_type ON entries (type, position);

CREATE FUNCTION entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'entries are never deleted';
END $$;
CREATE TRIGGER entries_stay BEFORE DELETE OR TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION entries_stay();

CREATE FUNCTION entries_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'entries are never changed';
END $$;
CREATE TRIGGER entries_are_final BEFORE UPDATE ON entries FOR EACH ROW
WHEN (NEW.sealed IS NOT NULL OR NEW.position <> OLD.position OR NEW.version <> OLD.version OR NEW.type <> OLD.type
  OR NEW.time <> OLD.time OR NEW.epoch <> OLD.epoch OR NEW.commitment <> OLD.commitment OR NEW.leaf <> OLD.leaf)
EXECUTE FUNCTION entries_are_final();

-- What an entry is found by.
CREATE TABLE marks (
  kind     smallint NOT NULL,
  value    bytea    NOT NULL,
  position bigint   NOT NULL,
  PRIMARY KEY (kind, value, position)
);

-- The newest state of each objection.
CREATE TABLE objections (
  id       text   COLLATE "C" PRIMARY KEY,
  person   bytea  NOT NULL CHECK (length(person) = 32),
  position bigint NOT NULL
);
CREATE INDEX objections_by_person ON objections (person);

-- Accesses without a closing entry, when they are given up, and which replica holds them.
CREATE TABLE open_accesses (
  position bigint PRIMARY KEY,
  due      bigint NOT NULL,
  holder   text   NOT NULL
);

-- Overrides that somebody must be told of, and must review.
CREATE TABLE alerts (
  position  bigint PRIMARY KEY,
  kind      text   NOT NULL CHECK (kind IN ('break-glass', 'after-no')),
  delivered bigint,
  review    bigint
);

-- Roots of the subtrees of 256^level leaves that are complete. What lies between is made of at most 255 of these, or of as many leaves.
CREATE TABLE nodes (
  level  smallint NOT NULL CHECK (level >= 1),
  number bigint   NOT NULL CHECK (number >= 0),
  hash   bytea    NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, number)
);

-- Signed checkpoints, with the cosignatures of witnesses.
CREATE TABLE checkpoints (
  size bigint PRIMARY KEY CHECK (size > 0),
  at   bigint NOT NULL,
  note bytea  NOT NULL
);

-- One row: the cluster that the ledger was last written on, and its timeline. A standby that was promoted has another timeline, and may lack what
-- was acknowledged.
CREATE TABLE cluster (
  one  boolean PRIMARY KEY CHECK (one),
  name text    NOT NULL
);
