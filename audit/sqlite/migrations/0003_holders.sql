-- Which of several processes holds an open access. One file serves one process, whose name is empty.
ALTER TABLE open_accesses ADD COLUMN holder TEXT NOT NULL DEFAULT '';
