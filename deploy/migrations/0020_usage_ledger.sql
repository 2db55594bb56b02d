-- The usage ledger: for how long each sandbox ran and was paused, written by the statement that changes its status.

-- What has ended. One that goes on is in the sandbox's row: usage_state since usage_since.
CREATE TABLE usage_intervals (
    sandbox_id  uuid NOT NULL,
    owner       text NOT NULL,
    provider    text NOT NULL,
    template_id text NOT NULL,
    label       text NOT NULL, -- user_id of its create
    state       text NOT NULL CHECK (state IN ('running', 'paused')),
    began       timestamptz NOT NULL,
    ended       timestamptz NOT NULL CHECK (ended > began)
);
CREATE INDEX usage_intervals_sandbox ON usage_intervals (sandbox_id, ended);
CREATE INDEX usage_intervals_owner ON usage_intervals (owner, ended);
CREATE INDEX usage_intervals_ended ON usage_intervals (ended);

-- The intervals of sandboxes whose rows were removed, by day (UTC).
CREATE TABLE usage_daily (
    owner       text NOT NULL,
    provider    text NOT NULL,
    template_id text NOT NULL,
    label       text NOT NULL,
    day         date NOT NULL,
    running_ms  numeric NOT NULL,
    paused_ms   numeric NOT NULL,
    PRIMARY KEY (owner, provider, template_id, label, day)
);
CREATE INDEX usage_daily_day ON usage_daily (day);

ALTER TABLE sandboxes
    ADD COLUMN usage_state text, -- running or paused; NULL = neither is counted
    ADD COLUMN usage_since timestamptz;

-- The days (UTC) that an interval touches, with its milliseconds in each.
CREATE FUNCTION usage_days(p_began timestamptz, p_ended timestamptz) RETURNS TABLE (day date, ms numeric)
LANGUAGE sql IMMUTABLE AS $$
    SELECT d.at::date, extract(epoch FROM least(p_ended AT TIME ZONE 'UTC', d.at + interval '1 day')
                                        - greatest(p_began AT TIME ZONE 'UTC', d.at)) * 1000
      FROM generate_series(date_trunc('day', p_began AT TIME ZONE 'UTC'), p_ended AT TIME ZONE 'UTC', interval '1 day') AS d(at)
     WHERE d.at < p_ended AT TIME ZONE 'UTC'
$$;

-- A pause and a resume count as what went before until they are done, and so does a delete. A sandbox that its provider
-- lost counts until the provider first did not know it; when it comes back, all the time between counts, too.
CREATE FUNCTION usage_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    now_is text := CASE WHEN NEW.status IN ('running', 'paused') THEN NEW.status
                        WHEN NEW.status IN ('pausing', 'resuming', 'deleting') THEN OLD.usage_state END;
BEGIN
    IF now_is IS NOT DISTINCT FROM OLD.usage_state THEN
        RETURN NEW;
    END IF;
    IF now_is IS NULL AND NEW.lost_at IS DISTINCT FROM OLD.lost_at AND OLD.missing_since IS NOT NULL THEN
        moment := OLD.missing_since;
    ELSIF now_is = 'running' AND NEW.started_at IS DISTINCT FROM OLD.started_at
          AND NEW.started_at BETWEEN coalesce(OLD.usage_since, NEW.created_at) AND moment THEN
        moment := NEW.started_at; -- as the provider told it
    ELSIF OLD.status = 'deleted' THEN
        moment := coalesce((SELECT max(i.ended) FROM usage_intervals i WHERE i.sandbox_id = NEW.id), moment);
    END IF;
    IF OLD.usage_state IS NOT NULL AND moment > OLD.usage_since THEN
        INSERT INTO usage_intervals (sandbox_id, owner, provider, template_id, label, state, began, ended)
        VALUES (NEW.id, NEW.owner, NEW.provider, NEW.template_id, NEW.user_id, OLD.usage_state, OLD.usage_since, moment);
    END IF;
    NEW.usage_state := now_is;
    NEW.usage_since := CASE WHEN now_is IS NOT NULL THEN greatest(moment, OLD.usage_since) END;
    RETURN NEW;
END $$;

-- What is there already, as its events tell it.
INSERT INTO usage_intervals (sandbox_id, owner, provider, template_id, label, state, began, ended)
SELECT s.id, s.owner, s.provider, s.template_id, s.user_id, e.to_status, e.at, e.until
  FROM (SELECT sandbox_id, to_status, at, lead(at) OVER (PARTITION BY sandbox_id ORDER BY id) AS until
          FROM events WHERE to_status IN ('running', 'paused', 'deleted', 'failed') AND from_status <> to_status) e
  JOIN sandboxes s ON s.id = e.sandbox_id
 WHERE e.to_status IN ('running', 'paused') AND e.until > e.at;
UPDATE sandboxes s SET usage_state = e.to_status, usage_since = e.at
  FROM (SELECT DISTINCT ON (sandbox_id) sandbox_id, to_status, at FROM events
         WHERE to_status IN ('running', 'paused', 'deleted', 'failed') AND from_status <> to_status
         ORDER BY sandbox_id, id DESC) e
 WHERE e.sandbox_id = s.id AND e.to_status IN ('running', 'paused') AND s.status NOT IN ('deleted', 'failed');
-- Of those removed before only the day of their creation is known.
INSERT INTO usage_daily (owner, provider, template_id, label, day, running_ms, paused_ms)
SELECT owner, provider, template_id, '', day, running_ms, 0 FROM usage_of_pruned;

CREATE TRIGGER usage_keep BEFORE UPDATE OF status ON sandboxes FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION usage_keep();

-- As before, and keeps what the removed sandboxes used by day.
CREATE OR REPLACE FUNCTION prune_sandboxes(p_retention_ms bigint, p_sandboxes integer, p_rows integer)
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
    INSERT INTO usage_daily AS k (owner, provider, template_id, label, day, running_ms, paused_ms)
    SELECT i.owner, i.provider, i.template_id, i.label, d.day, coalesce(sum(d.ms) FILTER (WHERE i.state = 'running'), 0),
           coalesce(sum(d.ms) FILTER (WHERE i.state = 'paused'), 0)
      FROM usage_intervals i, usage_days(i.began, i.ended) d WHERE i.sandbox_id = ANY (whole)
     GROUP BY i.owner, i.provider, i.template_id, i.label, d.day ORDER BY i.owner, i.provider, i.template_id, i.label, d.day
    ON CONFLICT (owner, provider, template_id, label, day) DO UPDATE SET running_ms = k.running_ms + excluded.running_ms,
        paused_ms = k.paused_ms + excluded.paused_ms;
    DELETE FROM usage_intervals WHERE sandbox_id = ANY (whole);
    DELETE FROM events WHERE sandbox_id = ANY (whole);
    DELETE FROM jobs WHERE sandbox_id = ANY (whole);
    DELETE FROM sandboxes WHERE id = ANY (whole);
    RETURN total;
END $$;
