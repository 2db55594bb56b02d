-- Commands of sandboxes. What runs, and its output, is in the sandbox; a row says that it was asked for, and how far it
-- was when somebody looked last.
CREATE TABLE commands (
    id                   uuid PRIMARY KEY,
    sandbox_id           uuid NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    actor                text NOT NULL, -- who asked for it
    request_hash         text NOT NULL, -- of what was asked: another request under the same id is refused
    state                text NOT NULL CHECK (state IN ('starting', 'running', 'exited', 'killed', 'timed_out', 'lost')),
    background           boolean NOT NULL,
    tty                  boolean NOT NULL,
    run_as               text NOT NULL, -- '' = whom commands run as
    kept                 boolean NOT NULL DEFAULT true, -- its output is kept in the sandbox
    timeout_ms           bigint NOT NULL, -- of running time; 0 = none
    pid                  bigint NOT NULL DEFAULT 0,
    exit_code            integer,
    signal               integer,
    background_processes boolean NOT NULL DEFAULT false,
    stdout_bytes         bigint NOT NULL DEFAULT 0,
    stderr_bytes         bigint NOT NULL DEFAULT 0,
    ran_ms               bigint NOT NULL DEFAULT 0,
    survivors            text NOT NULL DEFAULT '', -- pids that a timeout or a kill left alive, with blanks between them
    created_at           timestamptz NOT NULL DEFAULT now(),
    ended_at             timestamptz,
    keep_until           timestamptz
);
CREATE INDEX commands_of_sandbox ON commands (sandbox_id, created_at DESC, id DESC);
CREATE INDEX commands_open ON commands (sandbox_id) WHERE ended_at IS NULL;
CREATE INDEX commands_to_prune ON commands (keep_until) WHERE keep_until IS NOT NULL;
