-- Retention: what has ended is removed in small batches, its usage figures are kept.

-- Room in each page for the next version of its rows: an update that changes no indexed column, as the reaper's for
-- each deadline, then touches none of the table's ten indexes.
ALTER TABLE sandboxes SET (fillfactor = 80);

-- With statistics from a time without unfinished jobs both partial indexes look equally cheap, and the planner took
-- this one to find the jobs of a sandbox: 4 s for 1000 deadlines instead of 0.1 s. What it now asks beside (a fact
-- of every row) is said only by those who mean it.
DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (run_at) WHERE state IN ('queued', 'running', 'retry_wait') AND run_at IS NOT NULL;

CREATE INDEX sandboxes_ended ON sandboxes ((coalesce(deleted_at, created_at))) WHERE status IN ('deleted', 'failed');
-- Removing a job looks for those that redrive it.
CREATE INDEX jobs_parent ON jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX events_of_none ON events (at) WHERE sandbox_id IS NULL;
CREATE INDEX revoked_tokens_age ON revoked_tokens (expires_at);
-- For sandboxes near the end of their provider's longest life.
CREATE INDEX sandboxes_started ON sandboxes (provider, started_at) WHERE status = 'running';

-- What the removed sandboxes used. Each counts on the day of its creation, in UTC.
CREATE TABLE usage_of_pruned (
    owner       text NOT NULL,
    provider    text NOT NULL,
    template_id text NOT NULL,
    day         date NOT NULL,
    sandboxes   bigint NOT NULL,
    failed      bigint NOT NULL, -- of them: could not be created
    running_ms  bigint NOT NULL,
    PRIMARY KEY (owner, provider, template_id, day)
);

-- The same of each sandbox that is still there.
CREATE VIEW usage_of_sandbox AS
SELECT s.id, s.owner, s.provider, s.template_id, (s.created_at AT TIME ZONE 'UTC')::date AS day,
       (s.status = 'failed')::int AS failed,
       coalesce((SELECT sum(extract(epoch FROM greatest(e.until, e.at) - e.at) * 1000)::bigint
                   FROM (SELECT to_status, at, coalesce(lead(at) OVER (ORDER BY id), now()) AS until
                           FROM events WHERE sandbox_id = s.id) e
                  WHERE e.to_status = 'running'), 0) AS running_ms
  FROM sandboxes s;

-- All of it: a sandbox that is pruned changes nothing here.
CREATE VIEW usage AS
SELECT owner, provider, template_id, day, sum(sandboxes)::bigint AS sandboxes, sum(failed)::bigint AS failed,
       sum(running_ms)::bigint AS running_ms
  FROM (SELECT owner, provider, template_id, day, sandboxes, failed, running_ms FROM usage_of_pruned
        UNION ALL
        SELECT owner, provider, template_id, day, 1, failed, running_ms FROM usage_of_sandbox) u
 GROUP BY owner, provider, template_id, day;

-- Removes sandboxes that ended longer ago than p_retention_ms, with their jobs and events: at most
-- p_rows rows or so, so that its locks are short. Returns the number of rows removed; 0 = nothing is old.
CREATE FUNCTION prune_sandboxes(p_retention_ms bigint, p_sandboxes integer, p_rows integer)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    cutoff timestamptz := now() - p_retention_ms * interval '1 millisecond';
    old uuid[];
    whole uuid[] := '{}';
    this uuid;
    size bigint;
    total bigint := 0;
BEGIN
    -- a failed sandbox has no time of its end but that of its jobs
    old := ARRAY(SELECT s.id FROM sandboxes s
                  WHERE s.status IN ('deleted', 'failed') AND coalesce(s.deleted_at, s.created_at) < cutoff
                    AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.sandbox_id = s.id
                                       AND coalesce(j.finished_at, 'infinity') >= cutoff)
                  ORDER BY coalesce(s.deleted_at, s.created_at) LIMIT p_sandboxes FOR UPDATE SKIP LOCKED);
    FOREACH this IN ARRAY old LOOP
        size := 1 + (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE sandbox_id = this LIMIT p_rows) j)
                  + (SELECT count(*) FROM events WHERE sandbox_id = this);
        IF size > p_rows AND total = 0 THEN
            -- newest first, because a job refers to the older one that it redrives
            DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM jobs WHERE sandbox_id = this ORDER BY seq DESC LIMIT p_rows));
            GET DIAGNOSTICS size = ROW_COUNT;
            IF size = p_rows THEN
                RETURN size;
            END IF;
            size := size + 1; -- its events are kept for the figures, and go with it
        END IF;
        EXIT WHEN total > 0 AND total + size > p_rows;
        whole := whole || this;
        total := total + size;
    END LOOP;
    IF total = 0 THEN
        RETURN 0;
    END IF;
    -- in the order of the key, so that two reapers cannot wait for each other
    INSERT INTO usage_of_pruned AS k (owner, provider, template_id, day, sandboxes, failed, running_ms)
    SELECT owner, provider, template_id, day, count(*), sum(failed), sum(running_ms)
      FROM usage_of_sandbox WHERE id = ANY (whole)
     GROUP BY owner, provider, template_id, day ORDER BY owner, provider, template_id, day
    ON CONFLICT (owner, provider, template_id, day) DO UPDATE SET sandboxes = k.sandboxes + excluded.sandboxes,
        failed = k.failed + excluded.failed, running_ms = k.running_ms + excluded.running_ms;
    DELETE FROM events WHERE sandbox_id = ANY (whole);
    DELETE FROM jobs WHERE sandbox_id = ANY (whole);
    DELETE FROM sandboxes WHERE id = ANY (whole);
    RETURN total;
END $$;

-- Sandboxes by status, in a time that does not grow with the table: exact up to p_exact of them, else from a
-- sample of p_pages pages.
CREATE FUNCTION count_sandboxes(p_exact integer, p_pages integer)
RETURNS TABLE (status text, sandboxes bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
    share real;
BEGIN
    IF (SELECT count(*) FROM (SELECT 1 FROM sandboxes s WHERE s.status <> 'deleted'
                               ORDER BY s.created_at DESC, s.id DESC LIMIT p_exact + 1) few) <= p_exact THEN
        RETURN QUERY SELECT s.status, count(*) FROM sandboxes s WHERE s.status <> 'deleted' GROUP BY s.status;
        RETURN;
    END IF;
    share := least(100, 100.0 * p_pages / greatest(1, pg_relation_size('sandboxes') / current_setting('block_size')::int));
    RETURN QUERY SELECT s.status, (count(*) * 100 / share)::bigint FROM sandboxes s TABLESAMPLE SYSTEM (share)
                  WHERE s.status <> 'deleted' GROUP BY s.status;
END $$;
