-- The event feed: each event gets an owner, a type, an actor and a position that no later commit can come before.

-- Positions are transaction ids plus `added`. Transaction ids begin again in a cluster into which a dump was restored;
-- event_clock_mend() then raises `added`, so that positions only ever grow.
CREATE TABLE event_clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    added    bigint NOT NULL
);
INSERT INTO event_clock (added) VALUES (0);

-- Every transaction that may still write an event writes it at this position or behind it. STABLE: the snapshot must be
-- that of the statement that reads the events.
CREATE FUNCTION event_horizon() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT c.added + pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM event_clock c
$$;

-- Types are stable: common/domain/event_types.def lists each with what it means.
CREATE FUNCTION event_type(p_from text, p_to text, p_reason text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_from = p_to THEN
                    CASE WHEN p_reason = 'missing_at_provider' THEN 'sandbox.missing'
                         WHEN p_reason = 'seen_at_provider' THEN 'sandbox.recovered'
                         WHEN p_from = 'creating' AND p_reason LIKE 'at %, because %' THEN 'sandbox.moved'
                         ELSE 'orphan.removed' END
                WHEN p_from = 'deleted' THEN 'sandbox.recovered'
                WHEN p_from = '' THEN 'sandbox.created'
                WHEN p_to IN ('pausing', 'deleting') AND p_reason LIKE '% started by deadline' THEN 'deadline.reached'
                WHEN p_to = 'running' AND p_from IN ('paused', 'resuming') THEN 'sandbox.resumed'
                WHEN p_to = 'deleted' AND p_reason = 'provider_lost' THEN 'sandbox.lost'
                ELSE 'sandbox.' || p_to END
$$;

-- The API key that asked for a job; '' = a token, or nobody.
ALTER TABLE jobs ADD COLUMN key_id text NOT NULL DEFAULT coalesce(current_setting('sandbox.key_id', true), '');

ALTER TABLE events
    ADD COLUMN position   bigint NOT NULL DEFAULT 0,
    ADD COLUMN owner      text NOT NULL DEFAULT '', -- of the sandbox; '' = a sandbox that no row names
    ADD COLUMN type       text NOT NULL DEFAULT '',
    ADD COLUMN actor_kind text NOT NULL DEFAULT '',
    ADD COLUMN actor_id   text NOT NULL DEFAULT ''; -- of a user its subject, of a key its id, else ''

CREATE FUNCTION event_clock_mend() RETURNS void LANGUAGE sql AS $$
    UPDATE event_clock c SET added = e.newest + 1
      FROM (SELECT coalesce(max(position), 0) AS newest FROM events) e
     WHERE e.newest > c.added + pg_current_xact_id()::text::bigint
$$;

CREATE FUNCTION event_actor_kind(p_origin text, p_key_id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_origin WHEN 'client' THEN CASE WHEN p_key_id <> '' THEN 'key' ELSE 'user' END
                         WHEN 'deadline' THEN 'timer' WHEN 'lifetime' THEN 'timer'
                         WHEN 'operator' THEN 'operator' ELSE 'provider' END
$$;

UPDATE events e SET type = event_type(e.from_status, e.to_status, e.reason),
       owner = coalesce((SELECT s.owner FROM sandboxes s WHERE s.id = e.sandbox_id), ''),
       actor_kind = coalesce((SELECT event_actor_kind(j.origin, j.key_id) FROM jobs j WHERE j.id = e.job_id), 'provider'),
       actor_id = coalesce((SELECT j.owner FROM jobs j WHERE j.id = e.job_id AND j.origin = 'client'), '');

CREATE INDEX events_feed ON events (position, id);
CREATE INDEX events_of_owner ON events (owner, position, id);

-- The sandbox's row lock, which every writer but one holds already, puts its events in the order of their commits.
-- A transaction that waited for that lock may have an older id than the one it waited for: its event goes behind the
-- sandbox's newest. No position is below that of the writer's own transaction, so the horizon holds for all of them.
CREATE FUNCTION event_complete() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    NEW.position := (SELECT c.added FROM event_clock c) + pg_current_xact_id()::text::bigint;
    NEW.type := event_type(NEW.from_status, NEW.to_status, NEW.reason);
    IF NEW.sandbox_id IS NOT NULL AND NEW.owner = '' THEN
        SELECT s.owner INTO NEW.owner FROM sandboxes s WHERE s.id = NEW.sandbox_id FOR NO KEY UPDATE;
        NEW.owner := coalesce(NEW.owner, ''); -- the foreign key refuses the row
        NEW.position := greatest(NEW.position, (SELECT e.position FROM events e WHERE e.sandbox_id = NEW.sandbox_id
                                                 ORDER BY e.id DESC LIMIT 1));
    END IF;
    IF NEW.actor_kind = '' THEN
        SELECT j.origin, j.owner, j.key_id INTO asked FROM jobs j WHERE j.id = NEW.job_id;
        NEW.actor_kind := event_actor_kind(asked.origin, asked.key_id);
        IF asked.origin = 'client' THEN
            NEW.actor_id := coalesce(nullif(asked.key_id, ''), asked.owner, '');
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER event_complete BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION event_complete();
