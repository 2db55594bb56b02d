-- The end of a user's tokens: a change of the password, the role or `disabled` ends every token
-- issued before it. Gateways read the rows whose `changed` is new, as they read revoked_tokens.

CREATE SEQUENCE user_changes;

ALTER TABLE users
    ADD COLUMN token_generation bigint NOT NULL DEFAULT 0, -- of the tokens that are still good
    ADD COLUMN not_before       timestamptz,               -- when the older ones ended
    ADD COLUMN changed          bigint;                    -- NULL: never, so no token has ended

CREATE INDEX users_changed ON users (changed) WHERE changed IS NOT NULL;
