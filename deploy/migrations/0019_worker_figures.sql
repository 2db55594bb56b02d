-- What a worker counts, as in its heartbeat in Redis; '' while Redis takes that one.
ALTER TABLE processes ADD COLUMN figures text NOT NULL DEFAULT '';
