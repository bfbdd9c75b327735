-- Open accesses are few, and each comes and goes: walking them costs less than an index of when they are due.
DROP INDEX open_accesses_by_due;
