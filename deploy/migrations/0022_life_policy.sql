-- When a sandbox is deleted for good, beside the deadline that its use moves.

ALTER TABLE sandboxes
    ADD COLUMN paused_ttl_ms bigint,     -- deleted after being paused for so long; NULL = never
    ADD COLUMN life_ends_at timestamptz, -- deleted then, whatever it does; NULL = never
    ADD COLUMN delete_at timestamptz;    -- the earlier of both, as its status has it; the reaper acts on it
CREATE INDEX sandboxes_delete_at ON sandboxes (delete_at) WHERE delete_at IS NOT NULL AND status <> 'deleted';

CREATE FUNCTION life_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.delete_at := CASE WHEN NEW.status NOT IN ('deleting', 'deleted', 'failed') THEN
        least(NEW.life_ends_at, CASE WHEN NEW.status = 'paused' THEN
            clock_timestamp() + NEW.paused_ttl_ms * interval '1 millisecond' END) END;
    RETURN NEW;
END $$;
CREATE TRIGGER life_begin BEFORE INSERT ON sandboxes FOR EACH ROW
    WHEN (NEW.life_ends_at IS NOT NULL) EXECUTE FUNCTION life_keep();
CREATE TRIGGER life_keep BEFORE UPDATE OF status ON sandboxes FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND (NEW.life_ends_at IS NOT NULL OR NEW.paused_ttl_ms IS NOT NULL))
    EXECUTE FUNCTION life_keep();
