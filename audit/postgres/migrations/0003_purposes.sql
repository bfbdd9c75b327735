-- Entries behind a key entry that says so are found by what their access was for. The tables do not change; but a program that does not write such marks must not write beside one that does, and whoever knows fewer migrations does not write.
COMMENT ON TABLE marks IS 'what an entry is found by; kinds 1 to 16';
