-- What one owner may have. A value here wins over the default that the gateway's configuration gives.
CREATE TABLE user_limits (
    owner      text NOT NULL, -- subject of the tokens, of our own users their id
    name       text NOT NULL, -- as in common/domain/limits.def
    value      bigint NOT NULL CHECK (value >= 0), -- 0 = no limit
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, name)
);

-- What is counted of one owner: sandboxes alive and paused, and those created within the minute.
CREATE INDEX sandboxes_use ON sandboxes (owner, status) WHERE status NOT IN ('deleted', 'failed');
-- a paused sandbox that is about to be resumed counts as alive
CREATE INDEX jobs_resuming ON jobs (sandbox_id)
    WHERE op = 'resume' AND state IN ('queued', 'running', 'retry_wait');

CREATE FUNCTION sandbox_use(p_owner text, OUT alive bigint, OUT paused bigint, OUT recent bigint)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(count(*) FILTER (WHERE u.status IN ('creating', 'running', 'pausing', 'resuming') OR u.resuming), 0),
           coalesce(count(*) FILTER (WHERE u.status = 'paused' AND NOT u.resuming), 0),
           (SELECT count(*) FROM sandboxes s WHERE s.owner = p_owner AND s.status <> 'deleted'
                                               AND s.created_at > now() - interval '1 minute')
         + (SELECT count(*) FROM sandboxes s WHERE s.owner = p_owner AND s.status = 'deleted'
                                               AND s.created_at > now() - interval '1 minute')
      FROM (SELECT s.status,
                   s.status = 'paused' AND EXISTS (
                       SELECT 1 FROM jobs j WHERE j.sandbox_id = s.id AND j.op = 'resume'
                          AND j.state IN ('queued', 'running', 'retry_wait')) AS resuming
              FROM sandboxes s WHERE s.owner = p_owner AND s.status NOT IN ('deleted', 'failed')) u
$$;

-- The owner's own limit, else the default; NULL = no limit.
CREATE FUNCTION user_limit(p_owner text, p_name text, p_default bigint)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT nullif(coalesce((SELECT l.value FROM user_limits l WHERE l.owner = p_owner AND l.name = p_name), p_default), 0)
$$;

-- Refuses what goes beyond the owner's limits, in the transaction that accepts it. The owner's lock
-- is held until that one commits, so what is counted here is all there is: no counter can drift.
-- The message is: name limit used seconds-until-it-may-help (0 = time does not).
CREATE FUNCTION check_quota(
    p_op text, p_owner text, p_admin boolean, p_sandbox uuid,
    p_max_sandboxes bigint, p_max_paused bigint, p_creates_per_minute bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    whose text := p_owner;
    was text;
    max_alive bigint;
    max_paused bigint;
    per_minute bigint;
    used record;
    oldest timestamptz;
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
    PERFORM pg_advisory_xact_lock(hashtextextended('quota:' || whose, 0));
    SELECT * INTO used FROM sandbox_use(whose);
    IF p_op = 'resume' AND EXISTS (SELECT 1 FROM jobs j WHERE j.sandbox_id = p_sandbox AND j.op = 'resume'
                                      AND j.state IN ('queued', 'running', 'retry_wait')) THEN
        RETURN; -- it counts already
    END IF;
    IF p_op <> 'pause' AND used.alive >= max_alive THEN
        RAISE EXCEPTION USING ERRCODE = 'SB002', MESSAGE = format('max_sandboxes %s %s 0', max_alive, used.alive);
    END IF;
    -- what is alive may be paused by its deadline, which nobody can refuse
    IF p_op <> 'resume' AND used.paused >= max_paused THEN
        RAISE EXCEPTION USING ERRCODE = 'SB002', MESSAGE = format('max_paused %s %s 0', max_paused, used.paused);
    END IF;
    IF used.recent >= per_minute THEN
        SELECT min(n.created_at) INTO oldest FROM (
            SELECT m.created_at FROM (
                (SELECT s.created_at FROM sandboxes s WHERE s.owner = whose AND s.status <> 'deleted'
                  ORDER BY s.created_at DESC LIMIT per_minute)
                UNION ALL
                (SELECT s.created_at FROM sandboxes s WHERE s.owner = whose AND s.status = 'deleted'
                  ORDER BY s.created_at DESC LIMIT per_minute)) m
             ORDER BY m.created_at DESC LIMIT per_minute) n;
        RAISE EXCEPTION USING ERRCODE = 'SB002', MESSAGE = format('creates_per_minute %s %s %s', per_minute, used.recent,
            greatest(1, ceil(extract(epoch FROM oldest + interval '1 minute' - clock_timestamp()))::int));
    END IF;
END $$;
