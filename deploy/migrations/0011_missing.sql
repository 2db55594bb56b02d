-- What a provider does not know at the moment is missing, not lost.
ALTER TABLE sandboxes ADD COLUMN missing_since timestamptz; -- first own not-found of the provider; NULL once it is seen there
ALTER TABLE sandboxes ADD COLUMN lost_at timestamptz;       -- ended only because the provider did not know it: given back when seen
CREATE INDEX sandboxes_missing ON sandboxes (provider) WHERE missing_since IS NOT NULL;
UPDATE sandboxes SET lost_at = deleted_at WHERE status = 'deleted' AND status_reason = 'provider_lost';
