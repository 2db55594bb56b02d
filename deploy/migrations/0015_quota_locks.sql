-- A burst of creates waited for one commit after another, with a connection each, however far from the limits.

-- Refuses what goes beyond the owner's limits, in the transaction that accepts it. The owner's lock
-- is held until that one commits, so what is counted here is all there is: no counter can drift.
-- Taken alone it lets one create in after another. So it is shared while each transaction that can
-- run at the same time may add one, and the limits still hold.
-- The message is: name limit used seconds-until-it-may-help (0 = time does not).
CREATE OR REPLACE FUNCTION check_quota(
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
    far := coalesce(used.alive + others <= max_alive, true) AND coalesce(used.paused + others <= max_paused, true)
       AND coalesce(used.recent + others <= per_minute, true);
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
