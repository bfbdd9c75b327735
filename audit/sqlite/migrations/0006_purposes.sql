-- Entries behind a key entry that says so are found by what their access was for. The tables do not change; but a program that does not write such marks must not go on with this file, and whoever knows fewer migrations does not.
SELECT 1;
