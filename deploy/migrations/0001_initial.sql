-- The truth: sandboxes, the jobs that change them, and the history of every change.

-- This database's own id. It tags our sandboxes at the providers, so that one deployment never
-- touches another's.
CREATE TABLE deployment (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO deployment DEFAULT VALUES;

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL UNIQUE,
    role          text NOT NULL CHECK (role IN ('user', 'admin')),
    password_hash text NOT NULL,
    disabled      boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE revoked_tokens (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    jti        text NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL
);

CREATE TABLE sandboxes (
    id                  uuid PRIMARY KEY,
    owner               text NOT NULL,
    user_id             text NOT NULL,
    provider            text NOT NULL,
    provider_sandbox_id text,
    template_id         text NOT NULL,
    domain              text NOT NULL DEFAULT '',
    access_token        text NOT NULL DEFAULT '',
    traffic_token       text NOT NULL DEFAULT '',
    status              text NOT NULL CHECK (status IN ('creating', 'running', 'pausing', 'paused',
                                                        'resuming', 'deleting', 'deleted', 'failed')),
    status_reason       text NOT NULL DEFAULT '',
    version             bigint NOT NULL DEFAULT 1,
    next_seq            bigint NOT NULL DEFAULT 1,
    timeout_mode        text NOT NULL CHECK (timeout_mode IN ('idle', 'absolute')),
    on_timeout          text NOT NULL CHECK (on_timeout IN ('pause', 'delete')),
    timeout_ms          bigint NOT NULL,
    expires_at          timestamptz,
    deadline_job_at     timestamptz, -- when the reaper last acted on expires_at
    provider_expires_at timestamptz,
    create_sent_at      timestamptz, -- a create may have reached the provider since then
    metadata            jsonb,
    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    stopped_at          timestamptz,
    deleted_at          timestamptz,
    last_activity_at    timestamptz
);
CREATE UNIQUE INDEX sandboxes_provider_id ON sandboxes (provider, provider_sandbox_id)
    WHERE provider_sandbox_id IS NOT NULL;
CREATE INDEX sandboxes_owner ON sandboxes (owner, created_at DESC, id DESC) WHERE status <> 'deleted';
CREATE INDEX sandboxes_owner_deleted ON sandboxes (owner, created_at DESC, id DESC) WHERE status = 'deleted';
CREATE INDEX sandboxes_newest ON sandboxes (created_at DESC, id DESC) WHERE status <> 'deleted';
-- paused sandboxes keep a passed expires_at: those that nothing happens to any more are left out
CREATE INDEX sandboxes_deadline ON sandboxes (expires_at) WHERE
    (status = 'running' OR status = 'paused' AND on_timeout = 'delete' AND timeout_mode = 'absolute');
CREATE INDEX sandboxes_lifetime ON sandboxes (provider, provider_expires_at) WHERE status = 'running';

CREATE TABLE jobs (
    id                   uuid PRIMARY KEY,
    sandbox_id           uuid NOT NULL REFERENCES sandboxes (id),
    seq                  bigint NOT NULL,
    parent_id            uuid REFERENCES jobs (id), -- the dead job this one redrives
    owner                text, -- who asked for it; NULL = the system itself
    op                   text NOT NULL CHECK (op IN ('create', 'resume', 'pause', 'delete', 'timeout',
                                                     'reconcile')),
    state                text NOT NULL CHECK (state IN ('queued', 'running', 'retry_wait', 'done',
                                                        'failed', 'dead', 'superseded')),
    origin               text NOT NULL CHECK (origin IN ('client', 'deadline', 'lifetime', 'reconcile',
                                                         'operator')),
    attempt              integer NOT NULL DEFAULT 0,
    max_attempts         integer NOT NULL,
    crashes              integer NOT NULL DEFAULT 0,
    run_at               timestamptz NOT NULL DEFAULT now(),
    deadline             timestamptz,
    lease_owner          text,
    lease_token          bigint NOT NULL DEFAULT 0,
    lease_until          timestamptz,
    enqueued_at          timestamptz,
    enqueue_count        integer NOT NULL DEFAULT 0,
    reply_to             text NOT NULL DEFAULT '',
    request_id           text NOT NULL DEFAULT '',
    traceparent          text NOT NULL DEFAULT '',
    params               jsonb NOT NULL DEFAULT '{}',
    result               jsonb,
    outcome              text,
    error                text NOT NULL DEFAULT '',
    provider_http_status integer NOT NULL DEFAULT 0,
    created_at           timestamptz NOT NULL DEFAULT now(),
    started_at           timestamptz, -- first claim
    finished_at          timestamptz,
    UNIQUE (sandbox_id, seq)
);
CREATE INDEX jobs_unfinished ON jobs (sandbox_id, seq) WHERE state IN ('queued', 'running', 'retry_wait');
CREATE INDEX jobs_due ON jobs (run_at) WHERE state IN ('queued', 'running', 'retry_wait');
CREATE INDEX jobs_dead ON jobs (finished_at) WHERE state = 'dead';

CREATE TABLE events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sandbox_id  uuid NOT NULL REFERENCES sandboxes (id),
    from_status text NOT NULL,
    to_status   text NOT NULL,
    reason      text NOT NULL,
    actor       text NOT NULL,
    job_id      uuid,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX events_of_sandbox ON events (sandbox_id, id);

-- One Idempotency-Key of one caller: what was asked, the job it became, the answer it got.
CREATE TABLE idempotency_keys (
    owner        text NOT NULL,
    key          text NOT NULL,
    request_hash text NOT NULL,
    claim        uuid NOT NULL, -- of the request that works on it; only that one may bind a job
    claimed_at   timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    job_id       uuid,
    sandbox_id   uuid,
    status       integer, -- HTTP status of the answer, once there is one
    body         text,
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- In the transaction that inserts the job, so that a key never means two jobs nor a job no key.
CREATE FUNCTION bind_idempotency_key(p_owner text, p_key text, p_claim uuid, p_job uuid, p_sandbox uuid)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE idempotency_keys k SET job_id = p_job, sandbox_id = p_sandbox
     WHERE k.owner = p_owner AND k.key = p_key AND k.claim = p_claim AND k.job_id IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'SB001', MESSAGE = 'another request has taken over this Idempotency-Key';
    END IF;
END $$;

-- Accepts one job for a sandbox. A function and not one statement, because what it reads (the
-- newest unfinished job) must be read after the sandbox's row lock is held, and a statement's
-- snapshot is taken before. Returns no row when the sandbox is not there for this owner.
CREATE FUNCTION accept_job(
    p_sandbox uuid, p_owner text, p_admin boolean, p_job uuid, p_op text, p_origin text, p_params jsonb,
    p_max_attempts integer, p_deadline_ms bigint, p_reply_to text, p_request_id text, p_traceparent text,
    p_join boolean, p_key text, p_claim text)
RETURNS TABLE (job_id uuid, joined boolean, reply_to text, request_id text, traceparent text)
LANGUAGE plpgsql AS $$
DECLARE
    this_seq bigint;
    newest jobs%ROWTYPE;
BEGIN
    SELECT s.next_seq INTO this_seq FROM sandboxes s
     WHERE s.id = p_sandbox AND (p_admin OR s.owner = p_owner) AND s.status <> 'deleted'
       FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_join THEN
        SELECT * INTO newest FROM jobs j
         WHERE j.sandbox_id = p_sandbox AND j.state IN ('queued', 'running', 'retry_wait')
         ORDER BY j.seq DESC LIMIT 1;
        IF FOUND AND newest.op = p_op THEN
            IF p_key <> '' THEN
                PERFORM bind_idempotency_key(p_owner, p_key, p_claim::uuid, newest.id, p_sandbox);
            END IF;
            RETURN QUERY SELECT newest.id, true, newest.reply_to, newest.request_id, newest.traceparent;
            RETURN;
        END IF;
    END IF;
    IF p_op = 'delete' THEN
        UPDATE jobs j SET state = 'superseded', finished_at = now(), params = j.params - 'envs',
                          error = 'superseded by a delete'
         WHERE j.sandbox_id = p_sandbox AND j.state IN ('queued', 'retry_wait') AND j.op <> 'delete';
    END IF;
    UPDATE sandboxes s SET next_seq = this_seq + 1 WHERE s.id = p_sandbox;
    INSERT INTO jobs (id, sandbox_id, owner, seq, op, state, origin, params, max_attempts, deadline,
                      reply_to, request_id, traceparent, enqueued_at)
    VALUES (p_job, p_sandbox, nullif(p_owner, ''), this_seq, p_op, 'queued', p_origin, p_params, p_max_attempts,
            CASE WHEN p_deadline_ms > 0 THEN now() + p_deadline_ms * interval '1 millisecond' END,
            p_reply_to, p_request_id, p_traceparent, now());
    IF p_key <> '' THEN
        PERFORM bind_idempotency_key(p_owner, p_key, p_claim::uuid, p_job, p_sandbox);
    END IF;
    RETURN QUERY SELECT p_job, false, p_reply_to, p_request_id, p_traceparent;
END $$;
