-- Keys of programs. Only the SHA-256 of a key is kept, and its first characters to tell it by.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    owner        text NOT NULL, -- subject of the tokens, of our own users their id
    username     text NOT NULL,
    name         text NOT NULL,
    prefix       text NOT NULL,
    hash         text NOT NULL UNIQUE, -- of the whole key, in hexadecimal
    scopes       text NOT NULL,        -- with blanks between them
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz, -- NULL: never
    last_used_at timestamptz, -- to the minute
    revoked_at   timestamptz
);
CREATE INDEX api_keys_owner ON api_keys (owner, created_at DESC, id DESC) WHERE revoked_at IS NULL;
