-- A key of a call that must not run twice (run-cmd): its claim is never taken over.
ALTER TABLE idempotency_keys ADD COLUMN once boolean NOT NULL DEFAULT false;
-- Earlier versions kept "try again" as an answer.
UPDATE idempotency_keys SET status = NULL, body = NULL WHERE status = 503;
