-- Creates that wait for their owner's quota (Prefer: wait=N) are served first in, first out, over all gateways.

CREATE TABLE create_line (
    place   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner   text NOT NULL,
    waiter  text NOT NULL, -- the Idempotency-Key of the request, or its job
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (owner, waiter)
);
CREATE INDEX create_line_seen ON create_line (seen_at);

-- Takes a place at the end of the owner's line, or says that the waiter still waits in its place. Under the owner's
-- lock, so that a later place never commits before an earlier one.
CREATE FUNCTION create_line_wait(p_owner text, p_waiter text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('quota:' || p_owner, 0));
    UPDATE create_line SET seen_at = clock_timestamp() WHERE owner = p_owner AND waiter = p_waiter;
    IF NOT FOUND THEN
        DELETE FROM create_line WHERE place = ANY (ARRAY(
            SELECT place FROM create_line WHERE seen_at < clock_timestamp() - interval '10 minutes'
             LIMIT 100 FOR UPDATE SKIP LOCKED));
        INSERT INTO create_line (owner, waiter) VALUES (p_owner, p_waiter);
    END IF;
END $$;

-- How many wait before this waiter; all of them for one without a place. A waiter says every second that it is there:
-- one that has been silent for 10 s (its gateway died) holds nobody up, and has its place again when it comes back.
CREATE FUNCTION create_line_ahead(p_owner text, p_waiter text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM create_line l
     WHERE l.owner = p_owner AND l.seen_at > clock_timestamp() - interval '10 seconds'
       AND l.place < coalesce((SELECT m.place FROM create_line m WHERE m.owner = p_owner AND m.waiter = p_waiter),
                              9223372036854775807)
$$;

-- As in 0015, and a create also leaves room for those who wait before it. p_waiter: NULL or '' = it does not wait.
CREATE FUNCTION check_quota(
    p_op text, p_owner text, p_admin boolean, p_sandbox uuid,
    p_max_sandboxes bigint, p_max_paused bigint, p_creates_per_minute bigint, p_waiter text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    whose text := p_owner;
    was text;
    max_alive bigint;
    max_paused bigint;
    per_minute bigint;
    used record;
    ahead bigint := 0;
    oldest timestamptz;
    others integer := current_setting('max_connections')::integer;
    far boolean;
BEGIN
    IF p_op <> 'create' THEN
        SELECT s.owner, s.status INTO whose, was FROM sandboxes s
         WHERE s.id = p_sandbox AND (p_admin OR s.owner = p_owner);
        -- nothing is added by resuming what is not paused, and by pausing what is not alive
        IF NOT FOUND OR (p_op = 'resume' AND was <> 'paused')
           OR (p_op = 'pause' AND was NOT IN ('running', 'resuming')) THEN
            RETURN;
        END IF;
    END IF;
    max_alive := user_limit(whose, 'max_sandboxes', p_max_sandboxes);
    max_paused := user_limit(whose, 'max_paused', p_max_paused);
    per_minute := CASE WHEN p_op = 'create' THEN user_limit(whose, 'creates_per_minute', p_creates_per_minute) END;
    IF coalesce(max_alive, max_paused, per_minute) IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO used FROM sandbox_use(whose);
    IF p_op = 'create' THEN
        ahead := create_line_ahead(whose, p_waiter);
    END IF;
    far := coalesce(used.alive + ahead + others <= max_alive, true)
       AND coalesce(used.paused + ahead + others <= max_paused, true)
       AND coalesce(used.recent + ahead + others <= per_minute, true);
    IF far THEN
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('quota:' || whose, 0));
    ELSE
        PERFORM pg_advisory_xact_lock(hashtextextended('quota:' || whose, 0));
    END IF;
    SELECT * INTO used FROM sandbox_use(whose);
    IF far AND NOT (coalesce(used.alive + others <= max_alive, true) AND coalesce(used.paused + others <= max_paused, true)
                    AND coalesce(used.recent + others <= per_minute, true)) THEN
        -- the limits came near between the two counts: the caller tries again
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'the owner is near a limit';
    END IF;
    IF p_op = 'resume' AND EXISTS (SELECT 1 FROM jobs j WHERE j.sandbox_id = p_sandbox AND j.op = 'resume'
                                      AND j.state IN ('queued', 'running', 'retry_wait')) THEN
        RETURN; -- it counts already
    END IF;
    IF p_op = 'create' THEN
        ahead := create_line_ahead(whose, p_waiter);
    END IF;
    IF p_op <> 'pause' AND used.alive + ahead >= max_alive THEN
        RAISE EXCEPTION USING ERRCODE = 'SB002', MESSAGE = format('max_sandboxes %s %s 0', max_alive, used.alive + ahead);
    END IF;
    -- what is alive may be paused by its deadline, which nobody can refuse
    IF p_op <> 'resume' AND used.paused + ahead >= max_paused THEN
        RAISE EXCEPTION USING ERRCODE = 'SB002', MESSAGE = format('max_paused %s %s 0', max_paused, used.paused + ahead);
    END IF;
    IF used.recent + ahead >= per_minute THEN
        SELECT min(n.created_at) INTO oldest FROM (
            SELECT m.created_at FROM (
                (SELECT s.created_at FROM sandboxes s WHERE s.owner = whose AND s.status <> 'deleted'
                  ORDER BY s.created_at DESC LIMIT per_minute)
                UNION ALL
                (SELECT s.created_at FROM sandboxes s WHERE s.owner = whose AND s.status = 'deleted'
                  ORDER BY s.created_at DESC LIMIT per_minute)) m
             ORDER BY m.created_at DESC LIMIT per_minute) n;
        RAISE EXCEPTION USING ERRCODE = 'SB002', MESSAGE = format('creates_per_minute %s %s %s', per_minute, used.recent + ahead,
            greatest(1, coalesce(ceil(extract(epoch FROM oldest + interval '1 minute' - clock_timestamp()))::int, 1)));
    END IF;
END $$;

-- For the programs of the version before.
CREATE OR REPLACE FUNCTION check_quota(
    p_op text, p_owner text, p_admin boolean, p_sandbox uuid,
    p_max_sandboxes bigint, p_max_paused bigint, p_creates_per_minute bigint)
RETURNS void LANGUAGE sql AS $$
    SELECT check_quota(p_op, p_owner, p_admin, p_sandbox, p_max_sandboxes, p_max_paused, p_creates_per_minute, '')
$$;
