-- Who did what to which sandbox, user or key, from where, with which result. No contents.
CREATE TABLE audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text NOT NULL, -- subject; '' = nobody known, 'operator' = the command line
    actor_name text NOT NULL,
    key_id     text NOT NULL, -- of the API key; '' = a token
    address    text NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL, -- id of a sandbox or key, or name of a user; '' = none
    status     integer NOT NULL, -- HTTP status; of a command its exit status
    error      text NOT NULL, -- error type; '' = none
    request_id text NOT NULL,
    detail     text NOT NULL
);
CREATE INDEX audit_log_actor ON audit_log (actor, id DESC);
CREATE INDEX audit_log_target ON audit_log (target, id DESC) WHERE target <> '';
CREATE INDEX audit_log_at ON audit_log (at);
