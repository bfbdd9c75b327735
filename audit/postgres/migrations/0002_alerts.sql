-- Alerts are of overrides, and of what the worklist's rules found: their kind is then the name of a rule.
ALTER TABLE alerts DROP CONSTRAINT alerts_kind_check;
ALTER TABLE alerts ADD CONSTRAINT alerts_kind_check CHECK (length(kind) BETWEEN 1 AND 40);
